"""A training run as one frozen value that is saved with it: its settings, its method, and what goes together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from slimnet.attached import check_target
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.fields import is_whole, shown
from slimnet.methods import Dense, Method
from slimnet.methods.base import CLOSES_NOTHING
from slimnet.settings import A_METHOD, Budget, TrainSettings, check_names

ONLY_WHERE_GIVEN = ("log", "weights_key", "pruning_epochs", "model_args", "transform")
"""Settings that a run writes only where they are given: without them it says what runs have always said."""


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
        if self.weights_key is not None and self.init is None:
            raise ArgumentError("`weights_key` chooses among initial weights: give `init`, or leave it out.")
        if self.laid_out > self.epochs:
            raise ArgumentError(f"`pruning_epochs` must not exceed the {self.epochs} epochs, got {self.pruning_epochs}.")
        self.method.check(epochs=self.laid_out)
        if not self.target and not self.method.closes_anything:
            raise ArgumentError(CLOSES_NOTHING)

    @property
    def laid_out(self) -> int:
        """The epochs that the method is laid out for: all, or ``pruning_epochs``."""
        return self.pruning_epochs or self.epochs

    def lengthened(self, epochs: int) -> TrainConfig:
        """The settings of the same run with more epochs: the method keeps to those that it was laid out for.

        Raises:
            ArgumentError: if there are not more.
        """
        if is_whole(epochs) and epochs < self.epochs:
            raise ArgumentError(
                f"a run of {self.epochs} epochs can be made longer, not shorter, got {epochs}: leave `epochs` out."
            )
        return replace(self, epochs=epochs, pruning_epochs=self.laid_out)

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
        for name in ONLY_WHERE_GIVEN:
            if not values[name]:
                del values[name]
        if self.log:
            values["log"] = list(self.log)
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
