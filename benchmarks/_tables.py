"""What all tables are made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
Result = dict[str, Any]


def load(name: str) -> Result | None:
    """A result, or None where it was not measured yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: float, digits: int = 2) -> str:
    """0.9173 → 91.73 %."""
    return f"{100 * share:.{digits}f} %"


def speedup(latency: Result, name: str = "slim") -> str:
    """Median and interval of the paired ratio, and the control."""
    variant = next(v for v in latency["variants"] if v["name"] == name)
    (low, high), control = variant["interval"], latency["control"]["speedup"]
    busy = ", busy machine" if "contended" in latency["flags"] else ""
    return f"{variant['speedup']:.2f}× ({low:.2f}–{high:.2f}; A/A {control:.2f}{busy})"


def parity(report: Result) -> str:
    """The worst relative errors of the gate."""
    worst = report["worst"]
    return f"{worst['model vs reference']['relative']:.0e}, {worst['onnx vs reference']['relative']:.0e}"
