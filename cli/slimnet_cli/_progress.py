"""How far a long command is, on stderr."""

from __future__ import annotations

import sys
import time

import click

from slimnet_cli._clean import clean

_LIVE, _LINES = 0.5, 10.0  # seconds between two updates: on a terminal, elsewhere


class Progress:
    """One updating line on a terminal, a line every ten seconds elsewhere; nothing for what is done at once.

    Where results go to the same terminal there is none: they show the progress themselves.

    Args:
        total: how many there are.
        what: of what.
    """

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._live = sys.stderr.isatty()
        self._quiet = self._live and sys.stdout.isatty()
        self._done = 0
        self._start = self._last = time.monotonic()
        self._shown = False

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        now = time.monotonic()
        if not self._quiet and now - self._last >= (_LIVE if self._live else _LINES):
            self._last = now
            rate = self._done / (now - self._start)
            left = (self._total - self._done) / rate
            line = f"{self._done:,} of {self._total:,} {self._what}, {rate:,.0f}/s, left {int(left) // 60}:{int(left) % 60:02}"
            click.echo(f"\r\x1b[K{clean(line)}" if self._live else line, err=True, nl=not self._live)
            self._shown = self._live

    def clear(self) -> None:
        """Take the updating line away, for other lines or at the end."""
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._shown = False
