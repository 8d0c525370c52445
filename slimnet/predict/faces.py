"""Faces in a picture: where they are, and what is cut out for the network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slimnet.detect.boxes import LEVEL
from slimnet.errors import ArgumentError
from slimnet.pictures.picture import turned
from slimnet.predict import detectors
from slimnet.predict.results import Box

if TYPE_CHECKING:
    from slimnet.pictures.picture import Picture
    from slimnet.predict.detectors import Detector


@dataclass(frozen=True)
class FoundFace:
    """A face in a picture.

    Attributes:
        box: where it is.
        confidence: of the detector that it is one, in [0, 1]; None where it gives none.
        tilt: how far it is turned clockwise, in degrees, by its eyes; 0 where the detector gives none.
    """

    box: Box
    confidence: float | None = None
    tilt: float = 0.0


class FaceFinder:
    """Finds faces and cuts them out; may be used by several threads.

    Args:
        margin: what to add around a face on each side, as a share of its width and height. 0 is how FER2013 was cut: its
            faces were found by OpenCV's cascade, and the boxes of the other detectors are brought to its measure.
        detector: ``"centerface"``, ``"blazeface"``, ``"cascade"``, or ``"auto"``: the first of them that is at hand; a file with
            the weights of one; or what makes a detector of your own, once a thread.
        min_face: side of the smallest face, in pixels of the picture.
        min_confidence: the least confidence of a face, in [0, 1]; None is what the detector's authors take.

    Attributes:
        detector: name of the detector; None of one of your own.

    Raises:
        ArgumentError: if a value is out of its range, or the detector gives no confidence and one is asked for.
        FileFormatError: if the detector's weights cannot be had.
        SlimnetError: if OpenCV is not installed, and is needed.
    """

    def __init__(
        self,
        *,
        margin: float = 0.0,
        detector: str | Path | Callable[[], Detector] = "auto",
        min_face: float = 0.0,
        min_confidence: float | None = None,
    ) -> None:
        if not 0 <= margin <= 2:
            raise ArgumentError(f"`margin` must be in [0, 2], got {margin}.")
        if not 0 <= min_face < float("inf"):
            raise ArgumentError(f"`min_face` must be 0 or more, got {min_face}.")
        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise ArgumentError(f"`min_confidence` must be in [0, 1], got {min_confidence}.")
        self.margin = margin
        self._least, self._sure = min_face, min_confidence or 0.0
        self.detector: str | None = None
        if isinstance(detector, str | Path):
            self.detector, self._make = detectors.maker(detector, min_confidence)
        else:
            self._make = detector
        self._local = threading.local()
        self._detector()  # that it can be made: before any picture is read

    def faces(self, picture: Picture) -> tuple[FoundFace, ...]:
        """The faces, from left to right, each within the picture.

        Args:
            picture: upright, RGB.
        """
        found = []
        for face in self._detector().find(picture, least=self._least):
            left, top, right, bottom = (round(value) for value in (face.x, face.y, face.x + face.width, face.y + face.height))
            box = _clipped(Box(left, top, right - left, bottom - top), picture.size)
            sure = face.confidence is None or face.confidence >= self._sure
            if min(box.width, box.height) >= max(1, self._least) and sure:
                found.append(FoundFace(box, face.confidence, face.tilt))
        return tuple(sorted(found, key=lambda each: each.box))

    def find(self, picture: Picture) -> tuple[Box, ...]:
        """Where the faces are, from left to right.

        Args:
            picture: upright, RGB.
        """
        return tuple(face.box for face in self.faces(picture))

    def crop(self, picture: Picture, box: Box, tilt: float = 0.0) -> Picture:
        """A face with its margin: moved inwards where it would leave the picture, smaller where the picture is.

        Args:
            picture: upright.
            box: of the face.
            tilt: of the face, in degrees: it is turned upright where that is more than a little.
        """
        x, width = _widened(box.x, box.width, self.margin, picture.width)
        y, height = _widened(box.y, box.height, self.margin, picture.height)
        edges = (x, y, x + width, y + height)
        return picture.crop(edges) if abs(tilt) < LEVEL else turned(picture, edges, tilt)

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
