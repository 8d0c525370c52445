"""Numbers as people read them, with their units on the same line."""

from __future__ import annotations

SPACE = "\u00a0"  # at which no line is broken


def large(value: float, digits: int = 4) -> str:
    """A large number with a unit: 40551040 → "40.55 M"."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.{digits}g}{SPACE}{unit}"
    return f"{value:.{digits}g}"


def percent(share: float | None) -> str:
    """A share as a percentage: 0.9173 → "91.7 %"; "–" for None."""
    return "–" if share is None else f"{100 * share:.1f}{SPACE}%"


def duration(seconds: float) -> str:
    """A time in its own unit: 754 → "12.6 min"."""
    for limit, unit in ((3600, "h"), (60, "min")):
        if seconds >= limit:
            return f"{seconds / limit:.1f}{SPACE}{unit}"
    return f"{seconds:.1f}{SPACE}s"
