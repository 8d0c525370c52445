"""Numbers on the command line: within bounds, so that none becomes a loop without end, or memory that nobody has."""

from __future__ import annotations

import math
from typing import Any

import click

COUNT = click.IntRange(1, 2**31 - 1)
THREADS = click.IntRange(1, 1024)
WORKERS = click.IntRange(0, 1024)
SIDE = click.IntRange(1, 8192)
CHANNELS = click.IntRange(1, 2**20)
SEED = click.IntRange(0, 2**32 - 1)


class Finite(click.FloatRange):
    """A number in a range, and no NaN or infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is no finite number."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


PROBABILITY = Finite(0, 1)
