"""One-shot: close filters and branches before the first step, then train what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar, Self

from torch import Tensor, nn

from slimnet.criteria import exact_count, get_criterion, lowest, statistics_modules
from slimnet.errors import ArgumentError
from slimnet.fields import again, documented, setting, text, within
from slimnet.graph.groups import ChannelGroup
from slimnet.methods.base import CLOSES_NOTHING, Pruner, Statistics
from slimnet.methods.channels import CLOSED, from_bits
from slimnet.methods.one_rate import OneRateMethod
from slimnet.methods.soft import SoftPruner

SOURCES = ("weights", "norms", "statistics")


@documented
@dataclass(frozen=True)
class OneShot(OneRateMethod):
    """Close the filters of lowest score, and the named branches, before the first step; train what is left.

    With ``cut="settled"`` every step then trains the cut network, at its own, lower cost.

    Raises:
        ArgumentError: if a hyper-parameter is out of its range; in a run without a target, if nothing would be closed.

    Example:
        >>> OneShot(0.5).last_epoch(30)
        -1

    References:
        Li et al., *Pruning Filters for Efficient ConvNets*, ICLR 2017.
        Le & Hua, *Network Pruning That Matters: A Case Study on Retraining Variants*, ICLR 2021.
    """

    name: ClassVar[str] = "one-shot"

    rate: float = again(
        OneRateMethod,
        "rate",
        0.0,
        rule=within("[0, 1)"),
        words="Share of filters closed: 0 where only branches go, or widths or a run's target say how many.",
    )
    _: KW_ONLY
    score: str = setting("l2", text(), "The criterion: l1, l2, gm, norm-scale or cs.")
    closed: tuple[tuple[str, str], ...] = setting(
        (),
        CLOSED,
        "Which filters of a group close, beside its width in widths: (group, bits in hexadecimal) pairs, first channel first. "
        "`slimnet prune --finetune` writes what it has chosen there; without it the score says which.",
    )
    reversible: bool = again(OneRateMethod, "reversible", False)

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        super().__post_init__()
        if get_criterion(self.score).source not in SOURCES and not self.closed:
            raise ArgumentError(f"`score` {self.score!r} needs gradients: use `slimnet prune --finetune` for it.")
        if lacking := [name for name, _ in self.closed if name not in dict(self.widths)]:
            raise ArgumentError(f"`closed` names {lacking[0]!r}, which has no width in `widths`.")

    @property
    def closes_anything(self) -> bool:
        """Whether a rate, widths or branches say what."""
        return bool(self.rate or self.branches or self.widths)

    @property
    def criterion(self) -> str:
        """Name of the criterion."""
        return self.score

    def last_epoch(self, epochs: int) -> int:
        """−1: the selection is final before the first epoch."""
        return -1

    def closing(self, size: int, closed: int) -> Self:
        """This method at the rate that closes just so many of ``size`` channels."""
        score = "l2" if self.closed else self.score  # what closed names needs none, and a score of gradients cannot be had
        return replace(self, widths=(), closed=(), branches=(), rate=closed / size, score=score)

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run (see :meth:`Method.start`)."""
        if not self.closes_anything:
            raise ArgumentError(CLOSES_NOTHING)
        return OneShotPruner(self, model, groups, epochs=epochs)


class OneShotPruner(SoftPruner):
    """Selects once, when the run begins."""

    def __init__(self, method: OneShot, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> None:
        super().__init__(method, model, groups, epochs=epochs)
        self.one_shot = method

    def begin(self, statistics: Statistics) -> None:
        """Select and close, in place."""
        self.after_epoch(self.last_epoch, statistics)

    def select(self, epoch: int, statistics: Statistics) -> dict[str, Tensor]:
        """Group name → indices of the channels of lowest score."""
        told = {name: self._told(name, bits) for name, bits in self.one_shot.closed if name in self.groups}
        if len(told) == len(self.groups):
            return told
        counts = {name: exact_count(group.size, self.methods[name].final_rate) for name, group in self.groups.items()}
        groups = [self.groups[name] for name, count in counts.items() if count]
        needs = get_criterion(self.method.criterion).source == "statistics" and groups
        modules = dict.fromkeys(module for group in groups for module in statistics_modules(group))
        found = statistics(list(modules)) if needs else None
        scored = {
            group.name: lowest(self.scores(group, self.method.criterion, statistics=found), counts[group.name])
            for group in groups
        }
        return scored | told

    def _told(self, name: str, bits: str) -> Tensor:
        """Indices of the channels that ``closed`` names of a group."""
        size, width = self.groups[name].size, dict(self.one_shot.widths)[name]
        indices = from_bits(name, bits, size).nonzero().flatten()
        if size - len(indices) != width:
            raise ArgumentError(f"`closed` leaves {name} {size - len(indices)} channels, `widths` {width}.")
        return indices

    def is_closed(self) -> bool:
        """Whether the selection has been made: it is exactly zero from then on."""
        return any(bool((scale == 0).any()) for scale in self.mask.scale.values())
