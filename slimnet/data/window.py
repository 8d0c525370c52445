"""A random window of a picture: a part of its area, a little higher or wider, anywhere in it."""

from __future__ import annotations

import math
from collections.abc import Sequence

Numbers = Sequence[float]
"""Of one window, each in [0, 1]: part of the area, of the way from 3:4 to 4:3, of the way down, of the way to the right."""

_WIDEST = 4 / 3  # width to height of a window, at most, either way


def sides(share: float, way: float) -> tuple[float, float]:
    """Height and width of a window as parts of those of a square picture, where they fit."""
    aspect = _WIDEST ** (2 * way - 1)
    return math.sqrt(share / aspect), math.sqrt(share * aspect)


def box_of(numbers: Numbers, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width in pixels of a window in a picture of (H, W); cut to what the picture has.

    Example:
        >>> box_of((1.0, 0.5, 0.3, 0.3), (60, 60))
        (0, 0, 60, 60)
    """
    share, way, down, right = numbers
    side = math.sqrt(size[0] * size[1])
    high, wide = (min(max(1, round(side * part)), most) for part, most in zip(sides(share, way), size, strict=True))
    return math.floor(down * (size[0] - high + 1) * _BELOW_1), math.floor(right * (size[1] - wide + 1) * _BELOW_1), high, wide


_BELOW_1 = 1 - 1e-9  # so that a number of 1 stays inside
