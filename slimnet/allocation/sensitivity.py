"""How much the loss rises when a group is narrowed: measured, a few widths a group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from slimnet.criteria import ClosedLoss, lowest
from slimnet.criteria.branches import WHOLE
from slimnet.criteria.losses import Closed
from slimnet.errors import ArgumentError
from slimnet.graph import ChannelGroup, branches_around
from slimnet.progress import each

POINTS = 4
"""So many widths of a group are measured, beside its own and 0; those between are interpolated."""


@dataclass(frozen=True)
class Sensitivity:
    """The rise of the loss by group and width, each group for itself, the others as ``kept`` says.

    Attributes:
        base: loss at ``kept``.
        kept: group name → channels while the others were measured.
        rises: group name → (width, rise above ``base``) pairs, by rising width.
    """

    base: float
    kept: Mapping[str, int]
    rises: Mapping[str, Sequence[tuple[int, float]]]

    def rise(self, name: str, width: int) -> float:
        """Of one group, interpolated; among widths above 0 a wider group never costs more than a narrower one."""
        pairs = dict(self.rises[name])
        if width == 0:
            return pairs[0]
        widths = [known for known in pairs if known]
        falling = np.maximum.accumulate([pairs[known] for known in reversed(widths)])[::-1]
        return float(np.interp(width, widths, falling))

    def total(self, kept: Mapping[str, int]) -> float:
        """Predicted rise of an assignment: the sum over the groups; those that are not named stay as they were measured."""
        return sum(self.rise(name, width) for name, width in kept.items() if name in self.rises)


class LossByWidth:
    """The measured loss of a network at given widths: of each group the channels of lowest score are closed."""

    def __init__(self, loss: ClosedLoss, groups: Sequence[ChannelGroup], scores: Mapping[str, Tensor]) -> None:
        """Find the channels once.

        Args:
            loss: of the network, on training images.
            groups: its channel groups and residual branches.
            scores: name of a group that may shrink → (size,) scores; the highest stay.
        """
        self._loss, self._scores = loss, scores
        self._groups = {group.name: group for group in groups if group.name in scores}
        self._around = branches_around(tuple(self._groups), groups)

    def __call__(self, kept: Mapping[str, int]) -> float:
        """The loss when groups keep so many channels; at 0 the residual branch around the group closes, where a norm ends it.

        Raises:
            ArgumentError: if a stream is to keep none: no other way leads past it.
        """
        return self._loss(list(self._closed(kept)))

    def _closed(self, kept: Mapping[str, int]) -> Iterator[Closed]:
        for name, width in kept.items():
            group = self._groups[name]
            if width == 0 and name in self._around:
                yield self._around[name], WHOLE
            elif width == 0 and group.is_stream:
                raise ArgumentError(f"{name!r} lies in no residual branch: it keeps one channel at least.")
            elif width < group.size:
                yield group, lowest(self._scores[name], group.size - width)


def measure_sensitivity(
    loss: LossByWidth,
    ladders: Mapping[str, Sequence[int]],
    kept: Mapping[str, int] | None = None,
) -> Sensitivity:
    """Measure how the loss rises with each group narrowed for itself.

    Args:
        loss: of the network.
        ladders: group name → the widths to choose from, falling, the group's own first.
        kept: group name → channels that the others keep meanwhile; default: all.
    """
    now = {name: ladder[0] for name, ladder in ladders.items()} | dict(kept or {})
    trials = [(name, width) for name, ladder in ladders.items() for width in telling_widths(ladder) if width != now[name]]
    base = loss(now)
    rises: dict[str, list[tuple[int, float]]] = {name: [(now[name], 0.0)] for name in ladders}
    for name, width in each(trials, "measuring what groups are worth", len(trials)):
        rises[name].append((width, loss(now | {name: width}) - base))
    return Sensitivity(base, now, {name: sorted(pairs) for name, pairs in rises.items()})


def number_of_trials(ladders: Mapping[str, Sequence[int]]) -> int:
    """How many losses :func:`measure_sensitivity` measures, beside the first."""
    return sum(len(telling_widths(ladder)) - 1 for ladder in ladders.values())


def telling_widths(ladder: Sequence[int]) -> list[int]:
    """The widths of a ladder to measure: its ends, 0, and some between, evenly spread."""
    above = [width for width in ladder if width]
    picked = {above[round(index * (len(above) - 1) / POINTS)] for index in range(POINTS + 1)}
    return sorted(picked | ({0} if 0 in ladder else set()), reverse=True)
