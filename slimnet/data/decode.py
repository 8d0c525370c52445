"""One image file in, a uint8 tensor out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from slimnet._torchvision import decoded_jpeg
from slimnet.data.window import Numbers, box_of
from slimnet.errors import DataError
from slimnet.files.untrusted import open_at_once
from slimnet.pictures import picture as pictures
from slimnet.pictures.picture import Picture


def read_image(path: Path, *, channels: int, size: tuple[int, int] | None = None) -> Tensor:
    """Decode an image file.

    Args:
        path: the file.
        channels: 1 (grey) or 3 (RGB); other images are converted.
        size: (H, W), or None to leave the size as it is. The image is turned upright and brought to the size as
            `slimnet.preprocess` says.

    Returns:
        uint8 (channels, H, W).

    Raises:
        DataError: if the file is missing, not an image, truncated, too large, or has 32 bits a value.
    """
    try:
        with io.BufferedReader(open_at_once(path)) as file:
            return decoded(file, path, channels=channels, size=size)
    except pictures.BROKEN as error:
        raise _unreadable(path, error) from None


def decoded(file: BinaryIO, name: object, *, channels: int, size: tuple[int, int] | None) -> Tensor:
    """The same of an open file, which messages call ``name``."""
    try:
        with pictures.open_picture(file) as image:
            _check(image, name, size)
            right = pictures.converted(image, channels)
            pixels = np.array(right if size is None else pictures.fitted(right, size))
    except pictures.BROKEN as error:
        raise _unreadable(name, error) from None
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1).contiguous()


def decoded_window(data: bytes, name: object, *, channels: int, size: tuple[int, int], numbers: Numbers) -> Tensor:
    """A random window of a picture, at a size: the picture is decoded, and nothing else of it is resized.

    Args:
        data: the file.
        name: what messages call it.
        channels: 1 (grey) or 3 (RGB).
        size: (H, W) of the result.
        numbers: where the window lies (see `slimnet.data.window`).

    Returns:
        uint8 (channels, H, W).

    Raises:
        DataError: as in `read_image`.
    """
    whole = decoded_whole(data, name, channels=channels, size=size)
    top, left, height, width = box_of(numbers, (whole.shape[1], whole.shape[2]))
    part = whole[:, top : top + height, left : left + width]
    return torch.nn.functional.interpolate(part[None], size, mode="bilinear", antialias=True)[0]


def decoded_whole(data: bytes, name: object, *, channels: int, size: tuple[int, int] | None = None) -> Tensor:
    """A picture in its own size. What most JPEG files are is decoded by torchvision, which gives the same and is faster.

    Raises:
        DataError: as in `read_image`.
    """
    file = io.BytesIO(data)
    try:
        with pictures.open_picture(file) as image:
            _check(image, name, size)
            is_plain = pictures.is_plain_jpeg(image) and (channels == 3 or image.mode == "L")
            found = decoded_jpeg(data, channels) if is_plain else None
    except pictures.BROKEN as error:
        raise _unreadable(name, error) from None
    if found is not None:
        return found
    file.seek(0)
    return decoded(file, name, channels=channels, size=None)


def read_header(path: Path) -> tuple[int, tuple[int, int]]:
    """Channels (1 for a grey image, else 3) and (H, W) of an image file, without decoding it.

    Raises:
        DataError: as in `read_image`.
    """
    try:
        with io.BufferedReader(open_at_once(path)) as file:
            return header(file, path)
    except pictures.BROKEN as error:
        raise _unreadable(path, error) from None


def header(file: BinaryIO, name: object) -> tuple[int, tuple[int, int]]:
    """The same of an open file, which messages call ``name``."""
    try:
        with pictures.open_picture(file) as image:
            _check(image, name)
            grey = image.mode in ("1", "L") or pictures.is_deep_grey(image)
            return 1 if grey else 3, image.size if pictures.is_lying(image) else (image.height, image.width)
    except pictures.BROKEN as error:
        raise _unreadable(name, error) from None


def _check(image: Picture, name: object, size: tuple[int, int] | None = None) -> None:
    """Refuse an image that has no 8 bits a channel, and before it is decoded one that is too large, or would be at the size."""
    for fault in (pictures.depth_fault(image), pictures.size_fault(image.size, size)):
        if fault is not None:
            raise DataError(f"{name} {fault}")


def _unreadable(name: object, error: Exception) -> DataError:
    if pictures.is_bomb(error):
        return DataError(f"{name} has more pixels than are decoded ({pictures.most_pixels():,}): make it smaller first.")
    reason = "it does not exist" if isinstance(error, FileNotFoundError) else "it may be truncated or no image"
    return DataError(f"{name} cannot be read as an image: {reason}.")
