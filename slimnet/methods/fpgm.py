"""FPGM: filter pruning via the geometric median (He et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from slimnet.criteria import exact_count, lowest
from slimnet.errors import ArgumentError
from slimnet.fields import again, documented
from slimnet.graph.groups import ChannelGroup
from slimnet.methods.base import Pruner, Statistics
from slimnet.methods.channels import others
from slimnet.methods.regrow import RegrowMethod, RegrowPruner
from slimnet.settings import MethodSettings


@documented
@dataclass(frozen=True)
class FPGM(RegrowMethod):
    r"""Zero the filters nearest the geometric median of their layer: the others replace them best.

    .. math:: d_f = \sum_g \lVert w_f - w_g \rVert_2

    After every epoch the ⌊Fθ_norm⌋ filters of least norm, then, among the others, those of least d_f are zeroed,
    ⌊Fθ⌋ in all; the gradients of zeroed filters are 0 until the next selection.

    Raises:
        ArgumentError: if a hyper-parameter is out of its range.

    Example:
        >>> FPGM(0.4, rate_norm=0.1).counts(16)
        (1, 5)

    References:
        He et al., *Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration*,
        CVPR 2019.
    """

    name: ClassVar[str] = "fpgm"

    rates: ClassVar[tuple[str, ...]] = ("rate", "rate_norm")

    rate_norm: float = again(MethodSettings, "rate_norm", 0.0)
    _: KW_ONLY
    mask_gradients: bool = again(RegrowMethod, "mask_gradients", True)
    mask_momentum: bool = again(RegrowMethod, "mask_momentum", True)

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        super().__post_init__()
        if self.rate_norm > self.rate:
            raise ArgumentError(f"`rate_norm` must be in [0, `rate`], got {self.rate_norm} of {self.rate}.")

    def counts(self, size: int) -> tuple[int, int]:
        """How many of ``size`` filters go by norm, and how many by the geometric median."""
        by_norm = exact_count(size, self.rate_norm)
        return by_norm, exact_count(size, self.rate) - by_norm

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run (see :meth:`Method.start`)."""
        return FPGMPruner(self, model, groups, epochs=epochs)


class FPGMPruner(RegrowPruner):
    """FPGM's selection: the smallest norms first, the geometric median among the rest."""

    def __init__(self, method: FPGM, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> None:
        super().__init__(method, model, groups, epochs=epochs)

    def select(self, epoch: int, statistics: Statistics) -> dict[str, Tensor]:
        """Group name → selected indices, those by norm first."""
        return {name: self._select(name, group, epoch) for name, group in self.groups.items()}

    def _select(self, name: str, group: ChannelGroup, epoch: int) -> Tensor:
        before = self.settled(epoch, name)
        if len(before):
            return before
        method = self.methods[name]
        assert isinstance(method, FPGM)
        by_norm, by_median = method.counts(group.size)
        first = lowest(self.scores(group, "l2"), by_norm)
        return torch.cat([first, lowest(self.scores(group, "gm", among=others(group.size, first)), by_median)])
