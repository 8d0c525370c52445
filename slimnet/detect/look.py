"""One look at a picture: the pixels that a network takes, and how many of them are one of the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimnet.pictures.picture import Picture, resized

MULTIPLE = 32  # pixels: what sides are padded to; the networks halve them five times


def pixels_of(picture: Picture, size: int, *, square: bool = False) -> tuple[NDArray[np.float32], float]:
    """A picture resized so that its longer side is ``size``, padded with black below and right.

    Args:
        picture: RGB.
        size: in pixels.
        square: pad to a square; else to multiples of 32.

    Returns:
        (1, 3, H, W), 0 to 255, and how many pixels of it are one of the picture.
    """
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    padded = (size, size) if square else tuple(-(-side // MULTIPLE) * MULTIPLE for side in (height, width))
    pixels = np.zeros((*padded, 3), np.float32)
    pixels[:height, :width] = np.asarray(resized(picture, (width, height)))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]), scale
