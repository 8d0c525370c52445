"""Boxes of faces: how far two overlap, and which of many hits are one face."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

LEVEL = 8.0
"""Degrees: a face that is tilted less is classified as it is, without being turned upright."""


class Face(NamedTuple):
    """A face that was found: a rectangle in a picture, in pixels from its upper left corner.

    Attributes:
        x, y: its upper left corner.
        width, height: its size.
        confidence: in [0, 1], of the detector that there is a face; None where it gives none.
        eyes: middle of the eye on the left and of the one on the right, as seen; None where the detector gives none.
    """

    x: float
    y: float
    width: float
    height: float
    confidence: float | None = None
    eyes: tuple[tuple[float, float], tuple[float, float]] | None = None

    @property
    def tilt(self) -> float:
        """How far the line between the eyes is turned clockwise, in degrees; 0 where the detector gives no eyes."""
        if self.eyes is None:
            return 0.0
        left, right = self.eyes
        return math.degrees(math.atan2(right[1] - left[1], right[0] - left[0]))


class Frame(NamedTuple):
    """How the boxes of a detector are brought to the measure of FER2013, whose faces OpenCV's cascade had found.

    Attributes:
        factor: side of the square, in roots of the box's area.
        rise: how far its centre lies above the box's, in the same.
    """

    factor: float
    rise: float


def framed(face: Face, frame: Frame) -> Face:
    """The square that is cut out for a box."""
    root = (face.width * face.height) ** 0.5
    side, x, y = frame.factor * root, face.x + face.width / 2, face.y + face.height / 2 - frame.rise * root
    return face._replace(x=x - side / 2, y=y - side / 2, width=side, height=side)


def overlap(a: Face, b: Face) -> float:
    """Area that two boxes share, as a share of the area that they cover together (IoU), in [0, 1]."""
    shared = _shared(a, b)
    return shared / (a.width * a.height + b.width * b.height - shared) if shared else 0.0


def inside(a: Face, b: Face) -> float:
    """Area that two boxes share, as a share of the smaller one, in [0, 1]."""
    shared = _shared(a, b)
    return shared / min(a.width * a.height, b.width * b.height) if shared else 0.0


def suppressed(faces: Iterable[Face], *, most: float, most_inside: float = 1.0) -> list[Face]:
    """The most confident of those that overlap (non-maximum suppression), best first.

    Args:
        faces: hits, any number of one face.
        most: boxes that overlap more (:func:`overlap`) are one face.
        most_inside: … or that lie in another to a larger share (:func:`inside`).
    """
    kept: list[Face] = []
    for face in sorted(faces, key=lambda each: -(each.confidence or 0.0)):
        if all(overlap(face, other) <= most and inside(face, other) <= most_inside for other in kept):
            kept.append(face)
    return kept


def _shared(a: Face, b: Face) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return width * height if width > 0 and height > 0 else 0.0
