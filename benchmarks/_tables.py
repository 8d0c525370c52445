"""What all tables are made with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from _results import read_runs

ROOT = Path(__file__).parent.parent
Result = dict[str, Any]


def load(name: str) -> Result | None:
    """The newest run, or None where it was not measured yet: for what does not depend on the processor."""
    return next(iter(read_runs(name)), None)


PROCESSOR = "processor, instruction set"
"""The head of a column of :func:`processor`."""


def processor(r: Result) -> str:
    """What it was measured on: a speed is one of an instruction set, not of a processor's name."""
    return f"{r['device']}, {r.get('instructions', 'not recorded')}"


def measured(r: Result) -> str:
    """When, and on what."""
    return f"{r['date']}, {r['device']}, {r.get('instructions', 'instruction set not recorded')}"


def when(runs: Iterable[Result]) -> str:
    """The same of all runs in a table."""
    return "; ".join(measured(r) for r in runs)


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
