"""Pictures of painted faces, and a detector that finds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

SIDE = 40


def squares(grey: np.ndarray[Any, Any]) -> list[list[int]]:
    """A detector whose faces are mid-grey frames: 40×40, their insides black and white."""
    found = []
    for y, x in zip(*np.nonzero(grey == 128), strict=True):
        if (grey[y, x : x + SIDE] == 128).all() and (grey[y : y + SIDE, x] == 128).all() and grey[y, x : x + SIDE].size == SIDE:
            found.append([int(x), int(y), SIDE, SIDE])
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
