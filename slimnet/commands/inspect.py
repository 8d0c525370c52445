"""What of a checkpoint is zero, what can go, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.commands.opening import no_part, open_checkpoint, open_part
from slimnet.errors import ArgumentError
from slimnet.graph import ChannelGroup, analyse, stream_groups
from slimnet.known import is_onnx
from slimnet.measure import count
from slimnet.surgery import PEER_SECONDS, NoAnswerError, cross_check, make_plan
from slimnet.surgery.plan import from_ranges

if TYPE_CHECKING:
    from torch import nn


def inspect_checkpoint(
    checkpoint: Path | str, *, part: str | None = None, check: bool = False, seconds: float | None = None, **network: Any
) -> dict[str, Any]:
    """The channel groups of a checkpoint: what is zero, what can go, and if not, why. Nothing is changed or verified.

    Args:
        checkpoint: the weights.
        part: submodules that alone are looked at, see :func:`slimnet.slim`.
        check: whether the channel sets are held against torch-pruning's, see :func:`slimnet.surgery.cross_check`.
        seconds: that torch-pruning may take; None: a minute.
        **network: see :func:`open_checkpoint`.

    Returns:
        ``groups``: name, size, members, closed, partly, kept, reasons, flops_share (of making the channels);
        ``flops``: of the whole network; ``runs``: in how many runs it was recorded because its control flow depends on data, 0
        where the groups hold for all inputs; ``differences``, where it is asked for: a row for each difference from
        torch-pruning; ``no_answer`` in its place: why torch-pruning says nothing.
    """
    if is_onnx(checkpoint):
        no_part(part, str(checkpoint))
        if check:
            raise ArgumentError("torch-pruning does not read ONNX files: leave --cross-check out.")
    whole, images, _ = open_checkpoint(checkpoint, **network)
    model, example = open_part(whole, images, part)
    analysis = analyse(model, example)
    plan = make_plan(model, example, analysis=analysis)
    cost = count(model, example)
    shares = {g.name: _making(g, model, cost.by_module) / max(cost.flops, 1) for g in stream_groups(analysis)}
    rows = [{**group_row(group), "flops_share": shares[group["name"]]} for group in plan.as_dict()["groups"]]
    report: dict[str, Any] = {"flops": cost.flops, "params": cost.params, "runs": plan.runs, "groups": rows}
    if check:
        limit = PEER_SECONDS if seconds is None else seconds
        try:
            report["differences"] = [found.as_dict() for found in cross_check(model, example, seconds=limit)]
        except NoAnswerError as error:
            report["no_answer"] = str(error)
    return report


def _making(group: ChannelGroup, model: nn.Module, flops: Mapping[str, int]) -> float:
    """Multiply-adds that make the channels of a group."""
    return sum(
        flops.get(rows.module, 0) * rows.index.numel() / model.get_parameter(rows.name).shape[rows.dim] for rows in group.weights
    )


def group_row(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group of a plan without its index list."""
    return {key: value for key, value in group.items() if key != "kept"} | {
        "kept": len(from_ranges(group["kept"], group["size"]))
    }
