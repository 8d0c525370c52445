"""What SFP and its kin share: filters that are put down, and may come back, until the selection freezes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from slimnet.fields import again, documented, flag, setting
from slimnet.graph.groups import ChannelGroup
from slimnet.methods.base import Pruner, Statistics
from slimnet.methods.one_rate import OneRateMethod
from slimnet.methods.soft import PUBLISHED, SoftMethod, SoftPruner


@documented
@dataclass(frozen=True)
class RegrowMethod(OneRateMethod):
    """Filters may regrow until the selection freezes.

    Norms are masked only from the freeze on: where W, γ and β are all zero, so are their gradients, and no filter
    could come back.
    """

    published: ClassVar[Mapping[str, Any]] = {**PUBLISHED, "clip_regrowth": False}

    _: KW_ONLY
    reversible: bool = again(SoftMethod, "reversible", False)
    mask_gradients: bool = again(SoftMethod, "mask_gradients", False)
    mask_momentum: bool = again(SoftMethod, "mask_momentum", False)
    clip_regrowth: bool = setting(
        True,
        flag(),
        "The gradient of a selected filter in front of a norm is held to the average norm of those of the layer's other filters: "
        "at W = 0 the norm multiplies it by 1/√ε ≈ 316, which throws the filter past all the others within a step.",
    )

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run (see :meth:`Method.start`)."""
        return RegrowPruner(self, model, groups, epochs=epochs)


class RegrowPruner(SoftPruner):
    """A soft pruner whose norms close only when the selection freezes."""

    def __init__(self, method: RegrowMethod, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> None:
        super().__init__(method, model, groups, epochs=epochs)
        self.clips = method.clip_regrowth and not method.mask_gradients
        self._mask = self.make_mask(mask_norm=False)

    def after_backward(self) -> None:
        """Hold the gradients of regrowing filters to those of the others, in place; mask them once frozen."""
        if self.clips and not self.is_frozen:
            for name, selected in self.selected.items():
                if len(selected):
                    self._clip(self.groups[name], self.mask.scale[name] < 1)
        super().after_backward()

    def after_epoch(self, epoch: int, statistics: Statistics) -> None:
        """Select and scale, in place; with the last selection norms close too."""
        if epoch == self.last_epoch:
            self._mask_norms()
        super().after_epoch(epoch, statistics)

    def is_closed(self) -> bool:
        """Whether the final rate is reached and all that is selected is exactly zero, norms included if they close."""
        return self.mask.mask_norm == self.method.mask_norm and super().is_closed()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state (see :meth:`SoftPruner.load_state_dict`)."""
        if int(state["values"]["epoch"]) >= self.last_epoch:
            self._mask_norms()
        super().load_state_dict(state)

    def _mask_norms(self) -> None:
        """Mask norms too from now on, where the method asks for it; scales stay."""
        if self.method.mask_norm:
            scale = self.mask.state_dict()
            self._mask = self.make_mask(mask_norm=True)
            self.mask.load_state_dict(scale)

    @torch.no_grad()
    def _clip(self, group: ChannelGroup, selected: torch.Tensor) -> None:
        """Shrink gradients of selected filters to the mean norm of the layer's others, in place; to 0 where there are none."""
        for rows in group.weights:
            gradient = self.model.get_parameter(rows.name).grad
            if rows.name not in group.normed or gradient is None:
                continue
            index = rows.index.flatten().to(gradient.device)
            by_row = gradient.movedim(rows.dim, 0)
            chosen = selected.to(gradient.device).repeat_interleave(rows.index.shape[1])
            size = by_row[index].flatten(1).norm(dim=1)
            limit = size.new_zeros(()) if chosen.all() else size[~chosen].mean()
            factor = (limit / size[chosen].clamp_min(torch.finfo(size.dtype).tiny)).clamp_max(1)
            shape = [-1] + [1] * (by_row.dim() - 1)
            by_row[index[chosen]] *= factor.view(shape)
