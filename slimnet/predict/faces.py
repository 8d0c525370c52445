"""Faces in a picture: where they are, and what is cut out for the network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import ArgumentError
from slimnet.predict.results import Box

if TYPE_CHECKING:
    from slimnet.pictures.picture import Picture

LONGEST = 1280  # pixels: a larger picture is searched at this size, which finds faces down to a fiftieth of it


class Detector(Protocol):
    """What finds faces."""

    def __call__(self, grey: NDArray[np.uint8], /) -> Sequence[Sequence[int]]:
        """Find the faces in a picture (H, W): ``x, y, width, height`` of each, in pixels."""


def _cascade() -> Detector:
    from slimnet.predict._cv import Cascade

    return Cascade()


class FaceFinder:
    """Finds faces and cuts them out; may be used by several threads.

    Args:
        margin: what to add around a face on each side, as a share of its width and height. 0 is how FER2013 was cut: its
            faces were found by the same detector.
        detector: makes the detector, once a thread; default: the one that ships with OpenCV.

    Raises:
        ArgumentError: if ``margin`` is out of its range.
        SlimnetError: if OpenCV is not installed.
    """

    def __init__(self, *, margin: float = 0.0, detector: Callable[[], Detector] | None = None) -> None:
        if not 0 <= margin <= 2:
            raise ArgumentError(f"`margin` must be in [0, 2], got {margin}.")
        self.margin = margin
        self._make = detector or _cascade
        self._local = threading.local()
        self._detector()  # that it can be made: before any picture is read

    def find(self, picture: Picture) -> tuple[Box, ...]:
        """Where the faces are, from left to right.

        Args:
            picture: upright.
        """
        grey, scale = picture.convert("L"), max(1.0, max(picture.size) / LONGEST)
        if scale > 1:
            grey = grey.resize((max(1, round(grey.width / scale)), max(1, round(grey.height / scale))))
        found = self._detector()(np.asarray(grey))
        boxes = [Box(*(round(value * scale) for value in values)) for values in found]
        inside = [_clipped(box, picture.size) for box in boxes]
        return tuple(sorted(box for box in inside if box.width > 0 and box.height > 0))

    def crop(self, picture: Picture, box: Box) -> Picture:
        """A face with its margin: moved inwards where it would leave the picture, smaller where the picture is."""
        x, width = _widened(box.x, box.width, self.margin, picture.width)
        y, height = _widened(box.y, box.height, self.margin, picture.height)
        return picture.crop((x, y, x + width, y + height))

    def _detector(self) -> Detector:
        if not hasattr(self._local, "detector"):
            self._local.detector = self._make()
        detector: Detector = self._local.detector
        return detector


def _widened(start: int, length: int, margin: float, limit: int) -> tuple[int, int]:
    wider = min(limit, length + 2 * round(margin * length))
    return min(max(0, start - (wider - length) // 2), limit - wider), wider


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    left, top = max(0, box.x), max(0, box.y)
    right, bottom = min(size[0], box.x + box.width), min(size[1], box.y + box.height)
    return Box(left, top, right - left, bottom - top)
