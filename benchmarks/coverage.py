"""The surgeon on 22 networks, with half of their filters closed in two ways: what goes, at what cost, and how exactly.

    python benchmarks/coverage.py             # all of them
    python benchmarks/coverage.py resnet18    # these again; the others stay as they were measured

Expected: float64 parity of the cut ≤ 1e-9 everywhere (about 1e-15), every ONNX file through the gate at batch 1, 2 and 7. About
half an hour on one processor core. Needs timm for three of the networks. Writes results/coverage.json.
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

from slimnet.export import export_onnx
from slimnet.measure.machine import Watch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo

NAME = "coverage"


def measure(case: zoo.Case, mode: zoo.Mode) -> dict[str, Any]:
    """One row: the cut, and the ONNX file through the gate."""
    watch = Watch()
    row, masked, result, x = zoo.measure(case, mode)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = export_onnx(result.model, x, Path(folder) / "slim.onnx", reference=masked, tolerance=1e-6)
    row["onnx"] = {
        "passed": report.passed,
        "relative": max(check.relative for check in report.checks if check.dtype == "float32"),
        "batches": sorted({check.batch for check in report.checks}),
        "seconds": time.perf_counter() - start,
    }
    row["on_processor"] = watch.stop().on_processor
    return row


HEAD = ("network", "image", "parity", "ONNX", "zero filters", "removed", "FLOPs before → after", "seconds", "what stays, and why")


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    before, after = row["flops"]["before"], row["flops"]["after"]
    found, removed = row["zero_filters"], row["zero_filters_removed"]
    return (
        row["network"],
        f"{row['image']}²",
        f"{row['parity']:.0e}",
        f"{row['onnx']['relative']:.0e}" if row["onnx"]["passed"] else "failed",
        f"{found:,}",
        percent(removed / found, 1),
        f"{before / 1e6:,.1f} M → {after / 1e6:,.1f} M (−{percent(1 - after / before, 1)})",
        f"{row['seconds']:.1f} + {row['verify_seconds']:.1f}",
        "; ".join(f"{channels:,} {reason}" for reason, channels in row["reasons"].items()) or "nothing",
    )


def merged(new: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The new rows and what was there of the others from this machine, in the order of the table."""
    old = own_run(NAME).get("rows", [])
    rows = {(row["network"], row["mode"]): row for row in (*old, *new)}
    return [rows[case.name, mode] for case in zoo.CASES for mode in zoo.MODES if (case.name, mode) in rows]


def main(names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    chosen = [zoo.BY_NAME[name] for name in names] or [case for case in zoo.CASES if not case.missing]
    for case in chosen:
        rows = [measure(case, mode) for mode in zoo.MODES]
        for row in rows:
            print(*cells(row), sep=" | ", flush=True)
        write_result(NAME, {"threads": 1, "timm": version("timm"), "rows": merged(rows)})


def mode_table(mode: zoo.Mode, runs: list[Result]) -> str:
    """The networks with one kind of mask."""
    run = max(runs, key=lambda run: len(run["rows"]))  # of those, the newest
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    timm = f", timm {run['timm']}" if "timm" in run else ""
    rows = [cells(row) for row in run["rows"] if row["mode"] == mode]
    return table(HEAD, rows) + f"\n\nMeasured: {measured(run)}; {versions}{timm}."


TABLES = {mode: of_runs(NAME)(partial(mode_table, mode)) for mode in zoo.MODES}


if __name__ == "__main__":
    main(sys.argv[1:])
