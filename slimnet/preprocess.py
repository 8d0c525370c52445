"""How a picture becomes the input of a network: the one definition, for data sets, predictions and what a bundle declares.

A picture is turned upright (EXIF), made grey or RGB, resized until it covers the size, cropped at its centre, and each channel
is normalised. Pillow and NumPy alone: no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import ArgumentError
from slimnet.pictures.picture import Picture, converted, fitted

COLORS = {1: "grey", 3: "rgb"}
_LARGEST = 1e6  # of a side, a mean, a deviation

RESIZE = {
    "fit": "cover",
    "filter": "bilinear",
    "antialias": True,
    "passes": ["horizontal", "vertical"],
    "bits": 8,
    "size_rounding": "half-even",
    "crop": "centre",
    "crop_rounding": "down",
}
"""An image that has not the size (H, W) already is brought to it as Pillow does it.

The factor is max(H/h, W/w) in double precision; each side becomes the larger of its target and the side times the factor,
rounded half to even. Triangle filter, widened by the factor where the image shrinks (antialiased); first along rows, then along
columns, the result of each pass rounded to 8 bits. The crop starts at half of what is too much, rounded down.
"""

GREY = {"weights": [19595, 38470, 7471], "shift": 16, "rounding": "half-up"}
"""Grey of a colour picture: (19595 R + 38470 G + 7471 B + 32768) >> 16 (ITU-R 601-2 luma)."""

_RULES = {"range": [0.0, 1.0], "layout": "NCHW", "orientation": "exif", "alpha": "dropped", "resize": RESIZE}
KEYS = ("size", "channels", "color", "mean", "std", *_RULES)
"""What preprocessing says; ``grey`` too where there is one channel."""

Array = NDArray[np.float32]


def describe(*, size: Sequence[int], channels: int, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Preprocessing as ``model.json`` has it.

    Args:
        size: (H, W) in pixels.
        channels: 1 (grey) or 3 (RGB).
        mean: of each channel, in units where 255 is 1.
        std: likewise.

    Raises:
        ArgumentError: if a value is out of its range.
    """
    described = {
        "size": [int(side) for side in size],
        "channels": channels,
        "color": COLORS.get(channels),
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
        **_RULES,
        **({"grey": GREY} if channels == 1 else {}),
    }
    check(described)
    return described


def check(preprocessing: Mapping[str, Any]) -> None:
    """Refuse preprocessing that says something else than what is done here.

    Raises:
        ArgumentError: if a key is missing or a value is not one that :func:`describe` gives.
    """
    missing = [key for key in KEYS if key not in preprocessing]
    if missing:
        raise ArgumentError(f"`preprocessing` lacks {', '.join(missing)}: it must say {', '.join(KEYS)}.")
    channels = preprocessing["channels"]
    if type(channels) is not int or channels not in COLORS:
        raise ArgumentError(f"`channels` of `preprocessing` must be 1 (grey) or 3 (RGB), got {channels!r}.")
    fixed = {"color": COLORS[channels], **_RULES, **({"grey": GREY} if channels == 1 else {})}
    for key, value in fixed.items():
        if preprocessing.get(key) != value:
            raise ArgumentError(f"`{key}` of `preprocessing` must be {value}, got {preprocessing.get(key)!r}.")
    _check_numbers(preprocessing, "size", 2, least=1)
    _check_numbers(preprocessing, "mean", channels, least=-_LARGEST)
    _check_numbers(preprocessing, "std", channels, least=math.ulp(0.0))


def prepare(image: Picture, preprocessing: Mapping[str, Any]) -> Array:
    """What the network takes of a picture.

    Args:
        image: any picture of Pillow's that :func:`slimnet.pictures.picture.depth_fault` does not refuse.
        preprocessing: as :func:`describe` gives it, or ``model.json["preprocessing"]``.

    Returns:
        (C, H, W) float32, contiguous: (pixel / 255 - mean) / std of each channel.
    """
    height, width = preprocessing["size"]
    image = fitted(converted(image, preprocessing["channels"]), (height, width))
    return normalised(np.asarray(image), preprocessing)


def normalised(pixels: NDArray[np.uint8], preprocessing: Mapping[str, Any]) -> Array:
    """Pixels (H, W) or (H, W, C) of the right size as (C, H, W) float32: to the last bit what training is fed with."""
    array: Array = normalised_batch(pixels.reshape(1, *pixels.shape[:2], -1), preprocessing)[0]
    return array


def normalised_batch(pixels: NDArray[np.uint8], preprocessing: Mapping[str, Any]) -> Array:
    """Likewise (N, H, W, C) as (N, C, H, W)."""
    scale = 1 / np.array(preprocessing["std"], np.float64)
    shift = -np.array(preprocessing["mean"], np.float64) * scale
    array = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
    array *= (scale / 255).astype(np.float32)[:, None, None]
    array += shift.astype(np.float32)[:, None, None]
    return array


def _check_numbers(preprocessing: Mapping[str, Any], key: str, count: int, *, least: float) -> None:
    values, kind = preprocessing[key], int if key == "size" else (int, float)
    numbers = isinstance(values, list | tuple) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    if not numbers or len(values) != count or not all(least <= v <= _LARGEST for v in values):
        raise ArgumentError(f"`{key}` of `preprocessing` must be {count} numbers in their range, got {values!r}.")
