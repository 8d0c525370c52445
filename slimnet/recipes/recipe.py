"""What a recipe is: what it repeats, what is expected of it, and the settings of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slimnet.errors import ArgumentError, FileFormatError, ModelError, did_you_mean
from slimnet.settings import check_names

TEXTS, TABLES = ("about", "expected"), ("train", "method")
KEYS = (*TEXTS, "needs", *TABLES)


@dataclass(frozen=True)
class Recipe:
    """The settings of one training run, and what they are good for.

    Attributes:
        name: name of a recipe of slimnet, or the path of a file.
        about: what it repeats (paper, table, row), and where it differs.
        expected: the figure expected, in a line, and whose it is.
        train: settings of training, by the names of :class:`~slimnet.training.TrainConfig`, without the method.
        method: ``name`` and hyper-parameters of the method, as :meth:`Method.from_dict` takes them.
        needs: settings that depend on the user's machine and that the recipe cannot do without, such as ``init``.
    """

    name: str
    about: str
    expected: str
    train: Mapping[str, Any]
    method: Mapping[str, Any]
    needs: tuple[str, ...] = field(default=())

    @classmethod
    def from_dict(cls, name: str, values: Mapping[str, Any]) -> Recipe:
        """The recipe that a file describes; what its settings may be, :attr:`settings` says.

        Raises:
            FileFormatError: if a key is unknown or missing, or is not of its kind.
        """
        for key in values:
            if key not in KEYS:
                raise FileFormatError(f"{name}: unknown key `{key}`{did_you_mean(key, KEYS)} Settings go into [train].")
        for key in (*TEXTS, *TABLES):
            kind, wanted = (str, "a text") if key in TEXTS else (dict, "a table")
            if not isinstance(values.get(key), kind) or not values[key]:
                raise FileFormatError(f"{name}: `{key}` must be {wanted}, {_found(values, key)}.")
        needs = values.get("needs", [])
        if not isinstance(needs, list) or not all(isinstance(item, str) for item in needs):
            raise FileFormatError(f"{name}: `needs` must be a list of names, got {needs!r}.")
        expected = " ".join(values["expected"].split())
        return cls(name, values["about"].strip(), expected, values["train"], values["method"], tuple(needs))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings, checked and ready for ``slimnet.train(**settings, out=…)``, ``method`` among them.

        Raises:
            FileFormatError: if a setting or a hyper-parameter is unknown, naming the nearest known one, or out of its range.
        """
        from slimnet.training.config import TrainConfig

        if "method" in self.train:
            raise FileFormatError(f"{self.name}: `method` stands in [train]: it has a table of its own, [method], with a `name`.")
        if not isinstance(self.method.get("name"), str):
            raise FileFormatError(f"{self.name}: [method] must have a `name`, {_found(self.method, 'name')}.")
        try:
            check_names(self.needs)
            config = TrainConfig.from_dict({**self.train, "method": self.method})
        except (ArgumentError, FileFormatError, ModelError, TypeError) as error:
            raise FileFormatError(f"{self.name}: {error}") from None
        return {name: getattr(config, name) for name in (*self.train, "method")}

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "name": self.name,
            "about": self.about,
            "expected": self.expected,
            "needs": list(self.needs),
            "train": dict(self.train),
            "method": dict(self.method),
        }


def _found(values: Mapping[str, Any], key: str) -> str:
    return f"got {values[key]!r}" if key in values else "it is missing"
