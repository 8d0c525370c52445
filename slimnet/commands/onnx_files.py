"""An ONNX file in, a smaller ONNX file out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from slimnet.allocation import slim_aligned
from slimnet.commands.inspect import group_row
from slimnet.commands.opening import example_of, open_onnx
from slimnet.errors import ArgumentError
from slimnet.files import atomic_folder, write_json
from slimnet.measure import count
from slimnet.onnx.save import save
from slimnet.onnx_surgery import OnnxSlimResult, Reading, finished, slim_onnx, without_small_filters, written
from slimnet.progress import Say
from slimnet.surgery import slim
from slimnet.surgery.slim import check_tolerance

ONNX_FILES = ("model.onnx", "masked.onnx", "plan.json", "report.json")


def slim_onnx_file(
    path: Path | str,
    out: Path,
    *,
    align: int | Literal["auto"] | None,
    expand: bool,
    tolerance: float,
    force: bool,
    say: Say,
    **network: Any,
) -> dict[str, Any]:
    """`slim_checkpoint` for an ONNX file: writes ``model.onnx``, ``plan.json`` and ``report.json``.

    Raises:
        ArgumentError: if ``expand`` is asked for, which an ONNX file is not rewritten for.
        GraphError, VerificationError: see `slimnet.onnx_surgery.slim_onnx`.
    """
    if expand:
        raise ArgumentError("`expand` is for modules: leave it out for an ONNX file.")
    check_tolerance(tolerance)
    reading, zeroed = without_small_filters(open_onnx(path, **network), tolerance)
    if align == "auto":
        cut = slim_aligned(reading.model, example_of(reading), align, batch=reading.batch or 1)
    else:
        cut = slim(reading.model, reading.inputs, align=align)
    result = finished(reading, replace(cut, report=replace(cut.report, zeroed=zeroed)))
    tell_beyond(result.beyond, say)
    with atomic_folder(out, force=force, ours=ONNX_FILES) as folder:
        return write_slim(result, folder)


def write_slim(result: OnnxSlimResult, folder: Path, closed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write a slim file, its plan and the report to a folder.

    Args:
        result: the file.
        folder: where to write.
        closed: what the report says of pruning, where that was done first: its ``groups`` are those that were closed, and the
            plan's are ``slim_groups`` then.
    """
    report: dict[str, Any] = {
        "cost": {"before": _cost(result.reading.model, result.reading), "after": _cost(result.network, result.reading)},
        "surgery": result.report.as_dict(),
        "groups": [group_row(group) for group in result.plan.as_dict()["groups"]],
        "not_followed": dict(result.beyond),
    }
    if closed is not None:
        report = {**report, "slim_groups": report["groups"], **closed}
    result.save(folder / "model.onnx")
    write_json(folder / "plan.json", result.plan.as_dict())
    write_json(folder / "report.json", report)
    return report


def write_pruned(reading: Reading, masked: Any, folder: Path, report: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Write a file whose filters were closed (``masked.onnx``), and the same without them (``model.onnx``).

    Args:
        reading: the file.
        masked: its module, with filters closed.
        folder: where to write.
        report: what was closed.
        say: told what was not followed.
    """
    proto = written(reading, masked)
    save(proto, folder / "masked.onnx", before=reading.document.proto)
    result = slim_onnx(proto, reading.inputs)
    tell_beyond(result.beyond, say)
    return write_slim(result, folder, report)


def tell_beyond(beyond: Mapping[str, str], say: Say) -> None:
    """Say which nodes were not followed."""
    for node, reason in list(beyond.items())[:5]:
        say(f"not followed: {node}: {reason}; it and what lies behind it stay as they are")
    if len(beyond) > 5:
        say(f"not followed: {len(beyond) - 5} more nodes (report.json has all)")


def _cost(model: Any, reading: Reading) -> dict[str, Any]:
    cost = count(model, reading.inputs)
    return {"flops": cost.flops, "params": cost.params, "bytes": cost.bytes, "unknown_operators": cost.unknown}
