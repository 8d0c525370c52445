"""A training run as one frozen value that is saved with it: its settings, its method, and what goes together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from slimnet.attached import check_target
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.fields import shown
from slimnet.methods import Dense, Method
from slimnet.methods.base import CLOSES_NOTHING
from slimnet.settings import A_METHOD, Budget, TrainSettings, check_names


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainSettings):
    """The settings of one training run (see `slimnet.settings.TrainSettings`), with its method as an object.

    ``Dense()`` trains without pruning.

    Raises:
        ArgumentError: if a value is out of its range, or some do not go together.
    """

    method: Method = field(default_factory=Dense, metadata=TrainSettings.__dataclass_fields__["method"].metadata)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.method, Method):
            raise ArgumentError(f"`method` must be {A_METHOD.wanted}, got {shown(self.method)}.")
        if self.target:
            self._check_target()
        else:
            for name, given in (("shut_branches", self.shut_branches), ("allocate_by", self.allocate_by != "auto")):
                if given:
                    raise ArgumentError(f"`{name}` is for a target: give one, or leave it out.")
        self.method.check(epochs=self.epochs)
        if not self.target and not self.method.closes_anything:
            raise ArgumentError(CLOSES_NOTHING)

    def _check_target(self) -> None:
        Budget(**self.target)
        check_target(self.method)
        if self.shut_branches and not self.method.mask_norm:
            raise ArgumentError("`shut_branches` needs norms that close with their filters: leave `mask_norm` on.")

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON values; the method as its own dictionary."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["method"] = self.method.as_dict()
        for name in ("data_options", "augment", "target"):
            values[name] = dict(values[name])
        values["milestones"] = None if self.milestones is None else list(self.milestones)
        values["freeze"] = list(self.freeze)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Read back what :meth:`as_dict` gave.

        Raises:
            FileFormatError: for an unknown key, or a model that is missing.
            ArgumentError: for a value out of its range.
        """
        if not isinstance(values, Mapping):
            raise FileFormatError(f"the settings must be an object, got {type(values).__name__}.")
        try:
            check_names(values)
        except ArgumentError as error:
            raise FileFormatError(str(error)) from None
        if "model" not in values:
            raise FileFormatError("the settings name no `model`.")
        read = dict(values)
        if "method" in read:
            read["method"] = Method.from_dict(read["method"])
        if isinstance(read.get("milestones"), list):
            read["milestones"] = tuple(read["milestones"])
        return cls(**read)
