"""Network slimming: an L1 penalty on norm scales, then one selection by them (Liu et al., ICCV 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slimnet.criteria import select
from slimnet.errors import ArgumentError
from slimnet.fields import documented, not_negative, one_of, setting
from slimnet.graph.groups import ChannelGroup, Rows
from slimnet.methods.base import Pruner, Statistics
from slimnet.methods.one_rate import OneRateMethod
from slimnet.methods.soft import SoftPruner
from slimnet.names import RANKINGS, Ranking
from slimnet.schedules import Schedule, step


@documented
@dataclass(frozen=True)
class NetworkSlimming(OneRateMethod):
    r"""Push norm scales towards zero while training, close the channels of the smallest once, fine-tune the rest.

    .. math:: L = \sum_{(x, y)} \ell(f(x), y) + \lambda \sum_\gamma |\gamma|

    After the last epoch before fine-tuning the channels of least |γ| are closed, over all layers together or in
    every group. Where a group has several norms (a residual stream), |γ| is averaged over them.

    Raises:
        ArgumentError: if a hyper-parameter is out of its range.

    Example:
        >>> NetworkSlimming(0.7).last_epoch(epochs=160)
        79

    References:
        Liu et al., *Learning Efficient Convolutional Networks through Network Slimming*, ICCV 2017.
    """

    name: ClassVar[str] = "network-slimming"
    takes_widths: ClassVar[bool] = False
    finetune_share: ClassVar[float] = 0.5
    published: ClassVar[Mapping[str, Any]] = {"couple": "none", "convolutions_only": True, "ranking": "global"}

    penalty: float = setting(1e-4, not_negative(1_000_000), "λ; its subgradient λ · sign(γ) is added to the gradient of γ.")
    ranking: Ranking = setting(
        "global",
        one_of(*RANKINGS),
        "global: the smallest |γ| of all groups; group: ⌊Fθ⌋ of every group. One channel at least stays in every group.",
    )

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        super().__post_init__()
        if self.widths:
            raise ArgumentError("network-slimming finds its widths by itself: give it a `rate`, not `widths`.")

    def rate_schedule(self, last_epoch: int) -> Schedule:
        """θ(e): nothing until the one selection."""
        return step(self.rate, last_epoch)

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run; groups without norms are left alone (see :meth:`Method.start`)."""
        normed = [group for group in groups if next(_scales(group), None) is not None]
        return SlimmingPruner(self, model, normed, epochs=epochs)


class SlimmingPruner(SoftPruner):
    """The penalty until the selection, the hard mask after it."""

    def __init__(self, method: NetworkSlimming, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> None:
        super().__init__(method, model, groups, epochs=epochs)
        self.slimming = method
        names = {rows.name for group in self.groups.values() for rows in _scales(group)}
        self._gammas = [model.get_parameter(name) for name in sorted(names)]

    @torch.no_grad()
    def after_backward(self) -> None:
        """Add λ · sign(γ) to the gradients of norm scales, in place; once selected, mask gradients."""
        if self.is_frozen:
            super().after_backward()
            return
        penalty = self.slimming.penalty * self.step.loss_scale
        for gamma in self._gammas:
            if gamma.grad is not None and self.step.moves(gamma):
                gamma.grad.add_(gamma.sign(), alpha=penalty)

    @property
    def masks_gradients(self) -> bool:
        """Once selected; until then the penalty is added."""
        return self.is_frozen and super().masks_gradients

    def select(self, epoch: int, statistics: Statistics) -> dict[str, Tensor]:
        """Group name → channels of least |γ|; none before the last epoch that selects."""
        scores = {name: self._score(group) for name, group in self.groups.items()}
        return select(scores, self.rate(epoch), self.slimming.ranking)

    def _score(self, group: ChannelGroup) -> Tensor:
        """(size,) |γ|, averaged over the norms of the group and the entries of a channel."""
        return torch.stack(
            [self.model.get_parameter(rows.name).detach().double().abs().cpu()[rows.index].mean(1) for rows in _scales(group)]
        ).mean(0)


def _scales(group: ChannelGroup) -> Iterator[Rows]:
    """The norm scales γ of a group."""
    return (rows for rows in group.norms if rows.name.endswith("weight"))
