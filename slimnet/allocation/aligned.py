"""Surgery that keeps closed channels where the machine is faster with them."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from slimnet.allocation.fit import fit_padding
from slimnet.graph import ExampleInputs, channel_groups, prunable
from slimnet.parts import catch_part
from slimnet.surgery import SlimResult, slim


def slim_aligned(
    model: nn.Module,
    example: ExampleInputs,
    align: int | Literal["auto"] | None,
    *,
    expand: bool = False,
    tolerance: float = 0.0,
    part: str | None = None,
    batch: int = 1,
) -> SlimResult:
    """`slimnet.slim`, where ``align="auto"`` keeps the closed channels with which the network is predicted to run faster here.

    Args:
        model: the network, with zero filters; left as it was.
        example: images (N, C, H, W), or a tensor for each of several inputs; N at least 2.
        align: ``"auto"``; or as `slimnet.slim` takes it.
        expand, tolerance, part: see `slimnet.slim`. Of a part, it is the part alone that is to be faster.
        batch: images a run that it is to be faster with.

    Raises:
        ArgumentError, GraphError, VerificationError: as `slimnet.slim`.
        ExportError: if the network (or the part) cannot be exported, so that it cannot be timed.
    """
    how: dict[str, Any] = {"expand": expand, "tolerance": tolerance, "part": part}
    result = slim(model, example, align=None if align == "auto" else align, **how)
    if align != "auto":
        return result
    timed, inputs = model, example
    if part is not None:
        caught = catch_part(model, example, part)
        timed, inputs = caught.module, caught.inputs
    groups = channel_groups(timed, inputs)
    names = {group.name for group in prunable(groups)}
    kept = {group.name: len(group.kept) for group in result.plan.groups if group.name in names}
    wider = fit_padding(timed, inputs, groups, kept, batch=batch)
    return slim(model, example, align=wider, **how) if wider else result
