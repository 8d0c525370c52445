"""What the soft filter methods share: hyper-parameters, two schedules and a criterion.

A method of the family is one frozen dataclass on top of :class:`SoftMethod`: it gives the two schedules and
the criterion, and where "the lowest scores" is not all there is to its selection, a pruner of its own.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import nn

from slimnet.criteria import exact_count
from slimnet.errors import ArgumentError
from slimnet.graph.groups import ChannelGroup, Couple
from slimnet.methods._widths import checked_names, checked_pairs
from slimnet.methods.base import Method, Pruner
from slimnet.methods.pruner import SoftPruner
from slimnet.schedules import Schedule, asymptotic, constant

PUBLISHED: Mapping[str, Any] = {
    "couple": "none",
    "mask_norm": False,
    "reversible": False,
    "mask_momentum": False,
    "finetune_epochs": 0,
    "convolutions_only": True,
}
"""What ``faithful=True`` sets in every method of the family."""


@dataclass(frozen=True, kw_only=True)
class SoftMethod(Method):
    """Hyper-parameters that every soft filter method has.

    Attributes:
        couple: ``"stream"``: a residual stream closes as a whole; ``"none"``: every layer for itself.
        mask_norm: norms close with their filters. Without it a closed filter still emits a constant.
        reversible: a filter's factors accumulate to ζ(e), scores are taken with them divided out, and while ζ is at least
            :data:`RELEASE_ABOVE` a filter that is no longer selected gets its strength back; from then on the selection only
            grows. Without it a selected filter is multiplied by ζ(e) every epoch again, and its factors are never undone.
        mask_gradients: gradients of selected filters are multiplied by ζ.
        mask_momentum: the optimiser's momentum is scaled with the filter, or with an adaptive optimiser its
            whole update.
        finetune_epochs: epochs at the end with the selection frozen and closed; None: the method's
            ``finetune_share`` of all.
        convolutions_only: leave linear layers alone.
        ignore: patterns (``fnmatch``) of the names of channel groups that are left alone.
        widths: (group, channels) pairs: how many channels each group keeps, instead of the same rate for all (see
            `slimnet.allocation`). The schedule stays, in proportion; groups that are not named are left alone. 0 closes a group
            whole, which is for groups inside a residual branch: surgery then shuts the branch.
        branches: names of residual branches to close (see :func:`slimnet.graph.residual_branches`), the cheapest loss first. They
            fade as filters do, one after another, by γ and β of the norm that ends them, and surgery removes them whole.
        faithful: the published recipe, weak points included: sets every field named in ``published``.
    """

    finetune_share: ClassVar[float] = 0.2
    """Part of the epochs that fine-tunes the frozen selection, where ``finetune_epochs`` is None."""
    published: ClassVar[Mapping[str, Any]] = PUBLISHED
    """What ``faithful=True`` sets."""
    takes_widths: ClassVar[bool] = True
    rates: ClassVar[tuple[str, ...]] = ("rate",)
    """The hyper-parameters whose sum is ``final_rate``, or that are parts of it."""

    couple: Couple = "stream"
    mask_norm: bool = True
    reversible: bool = True
    mask_gradients: bool = True
    mask_momentum: bool = True
    finetune_epochs: int | None = None
    convolutions_only: bool = False
    ignore: tuple[str, ...] = ()
    widths: tuple[tuple[str, int], ...] = ()
    branches: tuple[str, ...] = ()
    faithful: bool = False

    def __post_init__(self) -> None:
        """Set the published recipe where ``faithful`` asks for it, and check the shared hyper-parameters."""
        for name, value in self.published.items() if self.faithful else ():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "ignore", tuple(self.ignore))
        object.__setattr__(self, "branches", checked_names(self.branches))
        object.__setattr__(self, "widths", tuple((str(name), width) for name, width in checked_pairs(self.widths)))
        if self.couple not in ("stream", "none"):
            raise ArgumentError(f"`couple` must be 'stream' or 'none', got {self.couple!r}.")
        if self.finetune_epochs is not None and self.finetune_epochs < 0:
            raise ArgumentError(f"`finetune_epochs` must be at least 0, got {self.finetune_epochs}.")

    @property
    def closes_branches(self) -> bool:
        """Whether branches are named, or a width of 0, which takes the branch around the group along."""
        return bool(self.branches) or any(width == 0 for _, width in self.widths)

    @property
    @abstractmethod
    def final_rate(self) -> float:
        """The share of filters closed at the end."""

    @property
    def criterion(self) -> str:
        """Name of the criterion whose lowest scores are selected."""
        return "l2"

    @abstractmethod
    def rate_schedule(self, last_epoch: int) -> Schedule:
        """θ(e): the share selected after epoch e; ``final_rate`` from ``last_epoch`` on."""

    @abstractmethod
    def scale_schedule(self, last_epoch: int) -> Schedule:
        """ζ(e): the scale of what is selected after epoch e; 0 from ``last_epoch`` on."""

    def count(self, size: int, rate: float) -> int:
        """How many of ``size`` channels a rate θ(e) selects: ⌊Fθ(e)⌋, and never all of them."""
        return exact_count(size, rate)

    def closing(self, size: int, closed: int) -> Self:
        """This method with its rates in proportion, so that it closes just so many of ``size`` channels."""
        factor = closed / size / self.final_rate
        given: dict[str, Any] = {name: getattr(self, name) * factor for name in self.rates}
        return dataclasses.replace(self, widths=(), faithful=False, **given)

    def last_epoch(self, epochs: int) -> int:
        """The epoch after which the selection is final: T − 1 less the epochs of fine-tuning.

        Raises:
            ArgumentError: if ``epochs`` leaves none for pruning.
        """
        if epochs < 1:
            raise ArgumentError(f"`epochs` must be at least 1, got {epochs}.")
        if self.finetune_epochs is None:
            return epochs - 1 - min(max(1, round(self.finetune_share * epochs)), epochs - 1)
        if self.finetune_epochs >= epochs:
            raise ArgumentError(f"`finetune_epochs` must be less than {epochs} epochs, got {self.finetune_epochs}.")
        return epochs - 1 - self.finetune_epochs

    def check(self, *, epochs: int) -> None:
        """Refuse a run that the fine-tuning fills (see :meth:`Method.check`)."""
        self.last_epoch(epochs)

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run (see :meth:`Method.start`)."""
        return SoftPruner(self, model, groups, epochs=epochs)


def rising(final: float, last_epoch: int, tau: float) -> Schedule:
    """The asymptotic rise to ``final``; with a single pruning epoch, ``final`` at once."""
    return asymptotic(final, last_epoch, tau) if last_epoch else constant(final)
