"""Better widths by exchange: one group narrower, another wider."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Kept = dict[str, int]
Measure = Callable[[Mapping[str, int]], float]

REACH = 6
"""Rungs of its ladder that a group may go up or down in one exchange."""
TRIED, WORKED_OUT = 512, 8
"""Of so many exchanges that promise most, the first so many that keep the bounds are compared."""
LEAST = 1e-6
"""An exchange must better the objective by so much of it."""
ROUGH = 0.002
"""The sum of two changes may miss the change by both, so much of a bound."""


@dataclass(frozen=True)
class Bound:
    """A measure that must stay between two values.

    Attributes:
        measure: of an assignment.
        low, high: the least and the greatest value.
    """

    measure: Measure
    low: float
    high: float

    def holds(self, kept: Mapping[str, int]) -> bool:
        """Whether an assignment is within."""
        return self.low <= self.measure(kept) <= self.high


def exchange(kept: Mapping[str, int], ladders: Mapping[str, Sequence[int]], objective: Measure, bounds: Sequence[Bound]) -> Kept:
    """Change the widths of one or two groups at a time, as long as that lowers the objective within the bounds.

    What two changes do together is first taken to be the sum of what each does, then worked out for the most promising.

    Args:
        kept: group name → width, within the bounds.
        ladders: group name → its widths to choose from, falling.
        objective: to be made small.
        bounds: to be kept.

    Returns:
        Widths that no such exchange betters; those given where none does.
    """
    now = dict(kept)
    while (better := _best(now, ladders, objective, bounds)) is not None:
        now = better
    return now


def _best(now: Kept, ladders: Mapping[str, Sequence[int]], objective: Measure, bounds: Sequence[Bound]) -> Kept | None:
    moves = [(name, width) for name, ladder in ladders.items() for width in _near(ladder, now[name])]
    if not moves:
        return None
    trials = [{**now, name: width} for name, width in moves]
    gains = np.array([objective(trial) for trial in trials]) - objective(now)
    groups = np.array([name for name, _ in moves])
    first, second = np.nonzero(np.triu(groups[:, None] != groups[None, :]))
    singles = np.arange(len(moves))
    first, second = np.concatenate([singles, first]), np.concatenate([singles, second])
    twice = (first != second).astype(float)
    promising = gains[first] + twice * gains[second] < 0
    for bound in bounds:
        start = bound.measure(now)
        change = np.array([bound.measure(trial) for trial in trials]) - start
        after = start + change[first] + twice * change[second]
        slack = ROUGH * abs(bound.high)
        promising &= (after >= bound.low - slack) & (after <= bound.high + slack)
    order = np.argsort((gains[first] + twice * gains[second])[promising], kind="stable")[:TRIED]
    pairs = zip(first[promising][order], second[promising][order], strict=True)
    found = (dict([*now.items(), moves[one], moves[other]]) for one, other in pairs)
    allowed = (trial for trial in found if all(bound.holds(trial) for bound in bounds))
    best = min(itertools.islice(allowed, WORKED_OUT), key=objective, default=now)
    return best if objective(now) - objective(best) > LEAST * abs(objective(now)) else None


def _near(ladder: Sequence[int], width: int) -> list[int]:
    """The next rungs above and below."""
    above = [rung for rung in ladder if rung > width][-REACH:]
    return above + [rung for rung in ladder if rung < width][:REACH]
