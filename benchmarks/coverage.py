"""The surgeon on 22 networks, with half of their filters closed in two ways: what goes, at what cost, and how exactly.

    python benchmarks/coverage.py             # all of them
    python benchmarks/coverage.py resnet18    # these again; the others stay as they were measured
    python benchmarks/coverage.py --page      # only write docs/coverage.md again

Expected: float64 parity of the cut ≤ 1e-9 everywhere (about 1e-15), every ONNX file through the gate at batch 1, 2 and 7. About
half an hour on one processor core. Needs timm for three of the networks. Writes results/coverage.json and docs/coverage.md.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from _results import own_run, read_runs, write_result
from _tables import measured, percent, table

from slimnet.export import export_onnx
from slimnet.measure.machine import Watch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import zoo

NAME = "coverage"
PAGE = Path(__file__).parent.parent / "docs" / "coverage.md"
HEADINGS: dict[zoo.Mode, str] = {
    "independent": "Independent masks",
    "coupled": "Coupled masks",
}
ABOUT: dict[zoo.Mode, str] = {
    "independent": "Half of the filters of every layer, drawn for each layer by itself: what most tools leave behind.",
    "coupled": "Half of the channels of every channel group, in all layers that make them.",
}


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


def page(result: Mapping[str, Any]) -> str:
    """docs/coverage.md."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    parts = [
        "# Coverage of the surgeon",
        "Written by `benchmarks/coverage.py` from `benchmarks/results/coverage.json`; `tests/test_coverage.py` asserts the same.",
        "Random weights; biases, norms and running statistics random as well, so that every closed filter leaves a constant "
        "behind, which must be folded or carried. *Parity* is max |Δ| ÷ max |logit| against the network with its zero filters, "
        "the cut made in float64, on the given and on random input, at two batch sizes and two resolutions; *ONNX* the same for "
        "the exported file in ONNX Runtime (float32) at batch 1, 2 and 7. *Removed* counts the zero filters that are gone; "
        "channels that nobody reads any more go as well and are not counted. FLOPs: one multiply-add counts as one. Seconds: "
        "analysis and cut + verification, on one core of a machine that was busy with other work.",
    ]
    for mode in zoo.MODES:
        rows = [row for row in result["rows"] if row["mode"] == mode]
        parts += [f"## {HEADINGS[mode]}", ABOUT[mode], table(HEAD, [cells(row) for row in rows])]
    timm = f", timm {result['timm']}" if "timm" in result else ""
    parts.append(f"Measured: {measured(dict(result))}; {versions}{timm}.")
    return "\n\n".join(parts) + "\n"


HEAD = ("network", "image", "parity", "ONNX", "zero filters", "removed", "FLOPs before → after", "seconds", "what stays, and why")


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the page."""
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
    chosen = [zoo.BY_NAME[name] for name in names if name != "--page"] or [case for case in zoo.CASES if not case.missing]
    for case in [] if "--page" in names else chosen:
        rows = [measure(case, mode) for mode in zoo.MODES]
        for row in rows:
            print(*cells(row), sep=" | ", flush=True)
        write_result(NAME, {"threads": 1, "timm": version("timm"), "rows": merged(rows)})
    fullest = max(read_runs(NAME), key=lambda run: len(run["rows"]))  # of those, the newest
    PAGE.write_text(page(fullest), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
