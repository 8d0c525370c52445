"""Faces followed from frame to frame, and the mean of what was said of them.

References:
    Bewley, Ge, Ott, Ramos & Upcroft, *Simple Online and Realtime Tracking*, ICIP 2016 (boxes matched by overlap; here without a
    model of motion).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import ArgumentError
from slimnet.predict.results import Box, Prediction

OVERLAP = 0.3
"""The least overlap of a face with itself in the frame before, as in the paper."""

Shares = NDArray[np.float64]


@dataclass(eq=False)
class _Face:
    """One face: where it was last, and what was said of it in which frame."""

    box: Box | None
    said: deque[tuple[int, Shares]] = field(default_factory=deque)


class Smoother:
    """Gives each face in each frame the mean of the probabilities of its last frames.

    A face is one of the frame before where their boxes overlap by `OVERLAP`, the pairs chosen so that they overlap most in all.
    One that is not found for a while is remembered for as many frames as the mean is of. Whole pictures are one subject.

    Args:
        frames: how many frames the mean is of, those passed over not counted.
        answered: says what is answered of probabilities (classes,), as :meth:`Predictor.answered` does.

    Raises:
        ArgumentError: if ``frames`` is less than 1.
    """

    def __init__(self, frames: int, answered: Callable[[Shares, Box | None], Prediction]) -> None:
        if frames < 1:
            raise ArgumentError(f"`smooth` must be at least 1, got {frames}.")
        self._frames, self._answered = frames, answered
        self._faces: list[_Face] = []
        self._now = 0

    def smoothed(self, predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
        """The predictions of the next frame, each with the mean as its ``smoothed``."""
        self._now += 1
        for face in self._faces:
            while face.said and face.said[0][0] <= self._now - self._frames:
                face.said.popleft()
        self._faces = [face for face in self._faces if face.said]
        return tuple(map(self._told, predictions, self._matched([prediction.box for prediction in predictions])))

    def _told(self, prediction: Prediction, face: _Face) -> Prediction:
        assert prediction.probabilities is not None
        face.box = prediction.box
        face.said.append((self._now, prediction.probabilities))
        mean = np.mean([shares for _, shares in face.said], axis=0)
        return replace(prediction, smoothed=self._answered(mean, prediction.box), frames=len(face.said))

    def _matched(self, boxes: Sequence[Box | None]) -> list[_Face]:
        """The face of each box: one that is known, or a new one."""
        from scipy.optimize import linear_sum_assignment

        overlaps = np.array([[overlap(face.box, box) for box in boxes] for face in self._faces]).reshape(
            len(self._faces), len(boxes)
        )
        rows, columns = linear_sum_assignment(overlaps, maximize=True)
        pairs = {int(j): self._faces[i] for i, j in zip(rows, columns, strict=True) if overlaps[i, j] >= OVERLAP}
        found = [pairs.get(place) or _Face(box) for place, box in enumerate(boxes)]
        self._faces += [face for place, face in enumerate(found) if place not in pairs]
        return found


def overlap(one: Box | None, other: Box | None) -> float:
    """Intersection over union of two boxes, in [0, 1]; of two whole pictures 1.

    Example:
        >>> overlap(Box(0, 0, 40, 40), Box(20, 0, 40, 40))
        0.3333333333333333
    """
    if one is None or other is None:
        return float(one is other)
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    both = max(0, width) * max(0, height)
    return both / (one.width * one.height + other.width * other.height - both)
