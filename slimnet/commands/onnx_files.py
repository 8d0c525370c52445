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
from slimnet.onnx_surgery import OnnxSlimResult, Reading, finished, without_small_filters, written
from slimnet.progress import Say
from slimnet.surgery import slim

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
    if not 0 <= tolerance < 1:
        raise ArgumentError(f"`tolerance` must be in [0, 1), got {tolerance}.")
    reading, zeroed = without_small_filters(open_onnx(path, **network), tolerance)
    if align == "auto":
        cut = slim_aligned(reading.model, example_of(reading), align)
    else:
        cut = slim(reading.model, reading.inputs, align=align)
    result = finished(reading, replace(cut, report=replace(cut.report, zeroed=zeroed)))
    tell_beyond(result.beyond, say)
    with atomic_folder(out, force=force, ours=ONNX_FILES) as folder:
        return write_slim(result, folder)


def write_slim(result: OnnxSlimResult, folder: Path, **more: Any) -> dict[str, Any]:
    """Write a slim file, its plan and the report, with ``more`` in it, to a folder."""
    report = {
        "cost": {"before": _cost(result.reading.model, result.reading), "after": _cost(result.network, result.reading)},
        "surgery": result.report.as_dict(),
        "groups": [group_row(group) for group in result.plan.as_dict()["groups"]],
        "not_followed": dict(result.beyond),
        **more,
    }
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
    from slimnet.onnx.save import save
    from slimnet.onnx_surgery import slim_onnx

    proto = written(reading, masked)
    save(proto, folder / "masked.onnx", before=reading.document.proto)
    result = slim_onnx(proto, reading.inputs)
    tell_beyond(result.beyond, say)
    found = write_slim(result, folder)
    whole = {**found, **report, "slim_groups": found["groups"]}
    write_json(folder / "report.json", whole)
    return whole


def tell_beyond(beyond: Mapping[str, str], say: Say) -> None:
    """Say which nodes were not followed."""
    for node, reason in list(beyond.items())[:5]:
        say(f"not followed: {node}: {reason}; it and what lies behind it stay as they are")
    if len(beyond) > 5:
        say(f"not followed: {len(beyond) - 5} more nodes (report.json has all)")


def _cost(model: Any, reading: Reading) -> dict[str, Any]:
    cost = count(model, reading.inputs)
    return {"flops": cost.flops, "params": cost.params, "bytes": cost.bytes, "unknown_operators": cost.unknown}
