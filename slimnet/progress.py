"""How long work tells what it does."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Told a line at a time."""


def silent(_: str) -> None:
    """Tells nobody."""


def quarters(say: Callable[[int], None]) -> Callable[[float], None]:
    """Progress that speaks up when another quarter is done, once each.

    Args:
        say: told how many quarters, from 0 to 4.

    Returns:
        To be called with the share done, in [0, 1].
    """
    told = -1

    def progress(share: float) -> None:
        nonlocal told
        done = int(4 * share)
        if done > told:
            told = done
            say(done)

    return progress
