"""Surgery that keeps closed channels where the machine is faster with them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from slimnet.allocation.fit import fit_padding
from slimnet.graph import channel_groups, prunable
from slimnet.surgery import SlimResult, slim


def slim_aligned(
    model: nn.Module,
    example: Tensor,
    align: int | Literal["auto"] | None,
    *,
    expand: bool = False,
    tolerance: float = 0.0,
) -> SlimResult:
    """`slimnet.slim`, where ``align="auto"`` keeps the closed channels with which the network is predicted to run faster here.

    Args:
        model: the network, with zero filters; left as it was.
        example: images (N, C, H, W), N at least 2.
        align: ``"auto"``; or as `slimnet.slim` takes it.
        expand, tolerance: see `slimnet.slim`.

    Raises:
        ArgumentError, GraphError, VerificationError: as `slimnet.slim`.
        ExportError: if the network cannot be exported, so that it cannot be timed.
    """
    result = slim(model, example, align=None if align == "auto" else align, expand=expand, tolerance=tolerance)
    if align != "auto":
        return result
    groups = channel_groups(model, example)
    names = {group.name for group in prunable(groups)}
    kept = {group.name: len(group.kept) for group in result.plan.groups if group.name in names}
    wider = fit_padding(model, example, groups, kept)
    return slim(model, example, align=wider, expand=expand, tolerance=tolerance) if wider else result
