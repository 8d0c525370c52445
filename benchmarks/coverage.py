"""The surgeon on networks of every kind, with half of their filters closed in two ways: what goes, at what cost, and how exactly.

    python benchmarks/coverage.py             # those that are not there yet from this machine and these versions
    python benchmarks/coverage.py resnet18    # these again; the others stay as they were measured

torchvision's for classification, segmentation and detection (what computes of a detector: backbone and head), timm's, and small
ones of the kinds that people write themselves (tests/own_nets.py). Expected: float64 parity of the cut ≤ 1e-9 everywhere (about
1e-15), every ONNX file through the gate at batch 1, 2 and 7. torch-pruning gets the same closed channels, where they are coupled.
Half a minute a network and way on one processor core. Needs timm. Writes results/coverage.json after each.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from _results import own_run, write_result
from _tables import Result, measured, of_runs, percent, table

from slimnet.errors import SlimnetError, one_line
from slimnet.export import export_onnx
from slimnet.measure.machine import Watch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo

NAME = "coverage"


def measure(case: zoo.Case, mode: zoo.Mode) -> dict[str, Any]:
    """One row: the cut, and the ONNX file through the gate."""
    watch = Watch()
    try:
        row, masked, result, x = zoo.measure(case, mode)
    except SlimnetError as error:
        return {"network": case.name, "family": case.family, "mode": mode, "image": case.size, "refused": one_line(error)}
    if mode == "coupled":
        row["torch_pruning"] = zoo.peer(masked, x)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = export_onnx(result.model, x, Path(folder) / "slim.onnx", reference=masked, tolerance=1e-6)
        except SlimnetError as error:
            row["onnx"] = {"passed": False, "error": one_line(error)}
        else:
            row["onnx"] = {
                "passed": report.passed,
                "relative": max(check.relative for check in report.checks if check.dtype == "float32"),
                "batches": sorted({check.batch for check in report.checks}),
            }
    row["onnx"]["seconds"] = time.perf_counter() - start
    row["on_processor"] = watch.stop().on_processor
    return row


HEAD = ("network", "family", "image", "parity", "ONNX", "zero filters", "removed", "FLOPs left", "seconds", "what stays, and why")
PEER = "torch-pruning, same channels"
EXACT = 1e-4
"""Of outputs in float32, relative: what is above is no rounding."""


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    first = (row["network"], row["family"], f"{row['image']}²")
    if "refused" in row:
        return *first, "refused", "", "", "", "", "", row["refused"], *([""] if row["mode"] == "coupled" else [])
    before, after = row["flops"]["before"], row["flops"]["after"]
    found, removed = row["zero_filters"], row["zero_filters_removed"]
    return (
        *first,
        f"{row['parity']:.0e}",
        f"{row['onnx']['relative']:.0e}" if row["onnx"]["passed"] else "failed",
        f"{found:,}",
        percent(removed / found, 1) if found else "–",
        f"{percent(after / before, 1)} of {before / 1e6:,.1f} M",
        f"{row['seconds']:.1f} + {row['verify_seconds']:.1f}",
        "; ".join(f"{channels:,} {reason}" for reason, channels in row["reasons"].items()) or "nothing",
        *([_peer(row["torch_pruning"])] if "torch_pruning" in row else []),
    )


def _peer(found: Mapping[str, Any]) -> str:
    """Whether torch-pruning runs on it, and whether what it leaves computes the same."""
    if "error" in found:
        return "does not run"
    return f"exact ({found['relative']:.0e})" if found["relative"] <= EXACT else f"off by {found['relative']:.1e}"


def merged(new: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The new rows and what was there of the others from this machine, in the order of the table."""
    old = [row for row in own_run(NAME).get("rows", []) if "family" in row]
    rows = {(row["network"], row["mode"]): row for row in (*old, *new)}
    return [rows[case.name, mode] for case in zoo.CASES for mode in zoo.MODES if (case.name, mode) in rows]


def main(names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    there = {row["network"] for row in own_run(NAME).get("rows", []) if "family" in row}
    chosen = [zoo.BY_NAME[name] for name in names] or [case for case in zoo.CASES if not case.missing and case.name not in there]
    for case in chosen:
        rows = [measure(case, mode) for mode in zoo.MODES]
        for row in rows:
            print(*cells(row), sep=" | ", flush=True)
        write_result(NAME, {"threads": 1, "timm": version("timm"), "rows": merged(rows)})


def _peers(rows: Sequence[Mapping[str, Any]]) -> str:
    """How torch-pruning did on them, in a sentence."""
    found = [_peer(row["torch_pruning"]).partition(" ")[0] for row in rows if "torch_pruning" in row]
    if not found:
        return ""
    return f" torch-pruning: {found.count('exact')} exact, {found.count('off')} off, {found.count('does')} do not run."


def mode_table(mode: zoo.Mode, runs: list[Result]) -> str:
    """The networks with one kind of mask."""
    runs = [run for run in runs if all("family" in row for row in run["rows"])]
    if not runs:
        return "(Not measured yet.)"
    run = max(runs, key=lambda run: len(run["rows"]))  # of those, the newest
    rows = [row for row in run["rows"] if row["mode"] == mode]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    timm = f", timm {run['timm']}" if "timm" in run else ""
    families = len({row["family"] for row in rows})
    wrong = sum("refused" not in row and row["parity"] > 1e-9 for row in rows)
    told = f"{len(rows)} networks of {families} families; {sum('refused' in row for row in rows)} refused, {wrong} wrong."
    head = HEAD if mode == "independent" else (*HEAD, PEER)
    return table(head, [cells(row) for row in rows]) + f"\n\n{told}{_peers(rows)} Measured: {measured(run)}; {versions}{timm}."


TABLES = {mode: of_runs(NAME)(partial(mode_table, mode)) for mode in zoo.MODES}


if __name__ == "__main__":
    main(sys.argv[1:])
