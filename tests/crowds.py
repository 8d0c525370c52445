"""Pictures of painted faces, and a detector that finds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from slimnet.detect import Face

SIDE = 40


class Squares:
    """A detector whose faces are mid-grey frames: 40×40, their insides black and white.

    Attributes:
        confidence: that it gives of each.
    """

    def __init__(self, confidence: float | None = None) -> None:
        self.confidence = confidence

    def find(self, picture: Image.Image, /, *, least: float) -> list[Face]:
        grey = np.asarray(picture.convert("L"))
        found = []
        for y, x in zip(*np.nonzero(grey == 128), strict=True):
            row, column = grey[y, x : x + SIDE], grey[y : y + SIDE, x]
            if (row == 128).all() and (column == 128).all() and row.size == SIDE:
                found.append(Face(float(x), float(y), SIDE, SIDE, self.confidence))
        return found[::-1]


def face(half: str) -> Image.Image:
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[{"top": np.s_[: SIDE // 2], "bottom": np.s_[SIDE // 2 :], "left": np.s_[:, : SIDE // 2]}[half]] = 255
    pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1] = 128, 128, 128, 128
    return Image.fromarray(pixels)


def crowd(faces: Sequence[tuple[str, int, int]], size: tuple[int, int] = (300, 200)) -> Image.Image:
    picture = Image.new("RGB", size, (40, 60, 80))
    for half, x, y in faces:
        picture.paste(face(half), (x, y))
    return picture


TWO = crowd([("top", 200, 20), ("left", 10, 100)])
