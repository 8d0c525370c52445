"""What training says on stderr: one updating line on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from slimnet._clean import clean

MIN_INTERVAL = 0.5


class Progress:
    """Writes the state of a run to a stream.

    Args:
        stream: where to write; None is stderr.
        quiet: write nothing at all.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._live = not quiet and self._stream.isatty()
        self._last = 0.0
        self._start = time.monotonic()
        self._first_done: float | None = None

    def is_due(self) -> bool:
        """Whether a line within the epoch would be shown now; ask before computing what it needs."""
        return self._live and time.monotonic() - self._last >= MIN_INTERVAL

    def step(self, done: float, total: int, numbers: Mapping[str, float]) -> None:
        """Show the state within an epoch.

        Args:
            done: epochs done, with the fraction of the one at hand.
            total: epochs in all.
            numbers: what to show, by the names of ``metrics.jsonl``.
        """
        left = self._left(done, total)
        if self.is_due():
            self._last = time.monotonic()
            self._write(f"\r\x1b[K{_line(done, total, numbers)}{left}", end="")

    def epoch(self, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Show an epoch that is over."""
        line = f"{_line(done, total, numbers)}{self._left(done, total)}"
        self._write(f"\r\x1b[K{line}" if self._live else line)

    def say(self, text: str) -> None:
        """Show one line of text."""
        self._write(f"\r\x1b[K{clean(text)}" if self._live else clean(text))

    def _left(self, done: float, total: int) -> str:
        if self._first_done is None:
            self._first_done, self._start = done, time.monotonic()
        gained = done - self._first_done
        if gained <= 0:
            return ""
        seconds = (time.monotonic() - self._start) / gained * (total - done)
        return f"  left {_clock(seconds)}"

    def _write(self, text: str, end: str = "\n") -> None:
        if not self._quiet:
            self._stream.write(text + end)
            self._stream.flush()


_SHOWN = {
    "lr": "lr {:.4g}",
    "train_loss": "loss {:.4f}",
    "train_accuracy": "acc {:.2%}",
    "val_loss": "val loss {:.4f}",
    "val_accuracy": "val acc {:.2%}",
    "rate": "θ {:.3f}",
    "zeta": "ζ {:.4f}",
    "live_flops": "live {:.4g} FLOPs",
}


def _line(done: float, total: int, numbers: Mapping[str, float]) -> str:
    where = f"epoch {done:.0f}/{total}" if float(done).is_integer() else f"epoch {done:.2f}/{total}"
    return "  ".join([where, *(form.format(numbers[name]) for name, form in _SHOWN.items() if name in numbers)])


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
