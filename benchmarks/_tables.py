"""What all tables are made with."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _results import read_runs

ROOT = Path(__file__).parent.parent
Result = dict[str, Any]


def of_runs(name: str) -> Callable[[Callable[[list[Result]], str]], Callable[[], str]]:
    """Makes a table of the runs in ``results/<name>.json``, the newest first; one that says so where there are none."""

    def of(make: Callable[[list[Result]], str]) -> Callable[[], str]:
        @functools.wraps(make)
        def made() -> str:
            runs = read_runs(name)
            return make(runs) if runs else "(Not measured yet.)"

        return made

    return of


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


def ranged(value: float, interval: Iterable[float], unit: str = "") -> str:
    """A figure with two digits, and its interval."""
    low, high = interval
    return f"{value:.2f}{unit} ({low:.2f}–{high:.2f})"


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


NETWORK = ("network", "test accuracy, dense → slim", "FLOPs saved, realised (paper accounting)", "parameters",
           "latency, 1 thread, batch 1", "relative Δ: slim to masked (float64), ONNX (float32)", "measured")  # fmt: skip
"""The head of a table of :func:`network_row`."""


def network_row(
    label: str, r: Result, accuracy: Mapping[str, float], saved: float, params: Mapping[str, int], gate: Result
) -> tuple[str, ...]:
    """A network that was trained, exported and timed."""
    return (
        label,
        f"{percent(accuracy['dense'])} → {percent(accuracy['slim'])}",
        f"{percent(saved, 1)} ({percent(r['paper_accounting']['saved'], 1)})",
        f"{params['dense'] / params['slim']:.2f}×",
        speedup(r["latency"]),
        parity(gate),
        measured(r),
    )


@dataclass(frozen=True)
class Picture:
    """An SVG of results. The hash of what it shows stands in it: how it is drawn differs with matplotlib's version.

    Attributes:
        path: of the file.
        rows: reads what it shows.
        draw: draws these into a file.
    """

    path: Path
    rows: Callable[[], list[Result]]
    draw: Callable[[list[Result], Path], None]

    def is_stale(self) -> bool:
        """Whether it shows something else than the results say."""
        return not self.path.is_file() or self._source() not in self.path.read_text(encoding="utf-8")

    def make(self) -> None:
        """Draw it."""
        self.draw(self.rows(), self.path)
        text = self.path.read_text(encoding="utf-8")
        text = re.sub("<dc:date>.*?</dc:date>", self._source(), text, count=1, flags=re.DOTALL)
        self.path.write_text(text, encoding="utf-8")
        print(self.path)

    def _source(self) -> str:
        found = hashlib.sha256(json.dumps(self.rows(), sort_keys=True).encode()).hexdigest()
        return f"<dc:source>{found}</dc:source>"
