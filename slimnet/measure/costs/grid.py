"""At which widths a layer is measured, and what its time is between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from slimnet.measure.costs.site import Site

ALIGNED = (4, 12, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384, 32768)
"""Where widths that suit the kernels are measured: closer together where the curve bends."""

ODD = (3, 15, 17)
"""Where few channels are read that do not suit them: below a block the time rises with each, above it other kernels take over."""

Point = tuple[int, int]
"""Channels read and made."""


@dataclass(frozen=True)
class Layout:
    """How the runtime's convolutions take channels, as measured.

    Attributes:
        step: widths that are multiples of this suit the fast kernels; 1 where all do.
        block: to a multiple of this the fast kernels fill them up, so that time is a staircase; 1 where it is not.
    """

    step: int = 1
    block: int = 1

    def suits(self, width: int) -> bool:
        """Whether the fast kernels take so many channels."""
        return width % self.step == 0

    def filled(self, width: int) -> int:
        """The width that the fast kernels compute for so many channels made."""
        return -(-width // self.block) * self.block


PROBED = (64, 63, 62, 60, 56, 52)
TOLERANCE = 0.12


def layout_of(times: Mapping[int, float]) -> Layout:
    """Read the layout from the times of a 3×3 convolution with as many channels in as out, at the widths `PROBED`."""
    full = times[64]
    step = next((64 - width for width in (63, 62, 60, 56) if times[width] <= (1 + TOLERANCE) * full), 64)
    if step == 64:
        return Layout()
    block = next((block for block, width in ((16, 52), (8, 60)) if times[width] >= (1 - TOLERANCE) * full), 1)
    return Layout(step, max(step, block))


@dataclass(frozen=True)
class Span:
    """Which widths one side of a layer may have.

    Attributes:
        most: the original width.
        fixed: whether it stays (the planes of an image, the classes).
    """

    most: int
    fixed: bool = False


def points(site: Site, reads: Span, makes: Span, layout: Layout) -> list[Point]:
    """Where the layer is measured: a grid a pair of regimes, of widths that suit the kernels and of widths that do not."""
    if site.kind == "depthwise":
        return [(width, width) for regime in _regimes(layout) for width in _side(makes, layout, regime, filled=False)]
    grids = [
        product(_side(reads, layout, first, filled=False), _side(makes, layout, second, filled=True))
        for first, second in product(_regimes(layout), _regimes(layout))
    ]
    return list(dict.fromkeys(point for grid in grids for point in grid))


def _regimes(layout: Layout) -> tuple[bool, ...]:
    return (True, False) if layout.step > 1 else (True,)


def _side(span: Span, layout: Layout, suits: bool, *, filled: bool) -> list[int]:
    """The widths of one side in one regime; where all suit, few of those that do not."""
    if span.fixed:
        return [span.most]
    inner = [width for width in ALIGNED if width < span.most]
    if not suits:
        quarter = [span.most // 4, span.most // 2] if span.most >= 64 else []
        few = [width for width in (ODD[1:2] if filled else ODD) if width < span.most]
        chosen = {_odd(width, layout) for width in [*few, *quarter, span.most]}
        return sorted(width for width in chosen if width > 0)
    least = layout.block if filled else 1
    return sorted({width for width in [*inner, layout.filled(span.most) if filled else span.most] if width >= least})


def _odd(width: int, layout: Layout) -> int:
    return width - 1 if layout.suits(width) else width


def interpolated(site: Site, point: Point, measured: Mapping[Point, float], layout: Layout) -> float:
    """The time at a point, between the measured ones of its regime; outside of them, that of the nearest.

    Raises:
        KeyError: if nothing was measured.
    """
    reads, makes = point
    same = _of_regime(measured, layout, layout.suits(reads), layout.suits(makes)) or dict(measured)
    if not same:
        raise KeyError(site.key)
    if site.kind == "depthwise":
        widths = sorted(width for width, _ in same)
        return float(np.interp(makes, widths, [same[width, width] for width in widths]))
    if layout.suits(makes):
        makes = layout.filled(makes)
    if layout.suits(reads) and reads > layout.block:
        reads = layout.filled(reads)
    return _bilinear(reads, makes, same)


def _of_regime(measured: Mapping[Point, float], layout: Layout, reads: bool, makes: bool) -> dict[Point, float]:
    """The grid of one regime; a side with a single width, which is fixed, belongs to both."""
    sides = [_values(measured, side) for side in (0, 1)]
    tests: list[Callable[[int], bool]] = [
        _suiting(layout, wanted) if len(widths) > 1 else _any for widths, wanted in zip(sides, (reads, makes), strict=True)
    ]
    return {point: time for point, time in measured.items() if tests[0](point[0]) and tests[1](point[1])}


def _suiting(layout: Layout, wanted: bool) -> Callable[[int], bool]:
    return lambda width: layout.suits(width) == wanted


def _any(_: int) -> bool:
    return True


def _values(points: Iterable[Point], side: int) -> list[int]:
    return sorted({point[side] for point in points})


def _bilinear(reads: int, makes: int, grid: Mapping[Point, float]) -> float:
    first, second = _values(grid, 0), _values(grid, 1)
    rows = [float(np.interp(makes, second, _row(grid, width, second))) for width in first]
    return float(np.interp(reads, first, rows))


def _row(grid: Mapping[Point, float], width: int, second: Sequence[int]) -> list[float]:
    return [grid[width, other] for other in second]
