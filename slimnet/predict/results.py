"""What was found in a picture, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DIGITS = 6  # of a probability in JSON
UNSURE = "unsure"
"""What is answered where the most probable class is not probable enough."""


class Box(NamedTuple):
    """A rectangle in a picture, in pixels from its upper left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Candidate:
    """A class that the picture may be of.

    Attributes:
        label: its name.
        index: its number among the network's outputs, from 0.
        probability: in [0, 1]; those of all classes sum to 1.
    """

    label: str
    index: int
    probability: float

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"label": self.label, "index": self.index, "probability": round(self.probability, DIGITS)}


@dataclass(frozen=True)
class Prediction:
    """What the network says of a picture, or of one face in it.

    Attributes:
        top: the most probable classes, best first; at least one.
        box: where the face is; None where the whole picture was looked at.
        unsure: whether the most probable class is less probable than an answer must be.
        probabilities: (classes,) of all classes, in the order of the network's outputs.
        face_confidence: of the detector that there is a face, in [0, 1]; None where it gives none.
        smoothed: of a video, what the mean of the probabilities of this subject's last frames says; None where that was not
            asked for.
        frames: how many frames that is the mean of.
    """

    top: tuple[Candidate, ...]
    box: Box | None = None
    unsure: bool = False
    probabilities: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)
    face_confidence: float | None = None
    smoothed: Prediction | None = None
    frames: int = 1

    @property
    def told(self) -> Prediction:
        """What people are told: the mean of the last frames, where there is one."""
        return self if self.smoothed is None else self.smoothed

    @property
    def answer(self) -> str:
        """Name of the most probable class, or `UNSURE`."""
        return UNSURE if self.unsure else self.label

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.top[0].label

    @property
    def index(self) -> int:
        """Its number among the network's outputs."""
        return self.top[0].index

    @property
    def probability(self) -> float:
        """Its probability, in [0, 1]."""
        return self.top[0].probability

    def as_dict(self) -> dict[str, Any]:
        """JSON values; ``box`` is ``[x, y, width, height]``; ``smoothed`` stands there where it was asked for."""
        top = [candidate.as_dict() for candidate in self.top]
        box = None if self.box is None else list(self.box)
        sure = None if self.face_confidence is None else round(self.face_confidence, DIGITS)
        values = {**top[0], "unsure": self.unsure, "box": box, "face_confidence": sure, "top": top}
        if self.smoothed is None:
            return values
        mean = {name: value for name, value in self.smoothed.as_dict().items() if name not in ("box", "face_confidence")}
        return {**values, "smoothed": {**mean, "frames": self.frames}}


@dataclass(frozen=True)
class Result:
    """One picture, done.

    Attributes:
        image: its name.
        width: in pixels, upright; None if it could not be read.
        height: likewise.
        predictions: one; with a detector, one a face, from left to right; none if it could not be read.
        notes: what was left out of the picture or changed.
        error: why it could not be read, naming it; None if it could.
    """

    image: str
    width: int | None
    height: int | None
    predictions: tuple[Prediction, ...]
    notes: tuple[str, ...] = ()
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values: always these keys."""
        return {
            "image": self.image,
            "width": self.width,
            "height": self.height,
            "predictions": [prediction.as_dict() for prediction in self.predictions],
            "notes": list(self.notes),
            "error": self.error,
        }
