"""A file becomes a picture of 8 bits a channel, or one clear line."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import ArgumentError, FileFormatError
from slimnet.files.untrusted import open_at_once
from slimnet.pictures import picture as pictures
from slimnet.pictures.picture import Picture
from slimnet.predict.sources import MAX_BYTES, Source

_ONE_FRAME = ("PNG", "JPEG", "PPM")
_WHOLE = 1 << 24  # bytes: a smaller file is read at once


def decode(source: Source) -> tuple[Picture, tuple[str, ...]]:
    """Read a picture: its first frame, as it lies in the file (orientation, depth and colour are for `slimnet.preprocess`).

    The size is looked at before anything is decoded.

    Args:
        source: what to read.

    Returns:
        The picture, loaded, and notes on what is left out or changed.

    Raises:
        FileFormatError: if it is missing, no picture, empty, cut short, damaged or too large; the line names it.
    """
    if source.fault is not None:
        raise FileFormatError(source.fault)
    try:
        if source.image is not None:
            _check_depth(source.image)
            return source.image, ()
        with _file(source) as file, pictures.open_picture(file, known_only=True) as image:
            _check_size(image)
            _check_depth(image)
            deep = pictures.is_deep(image)
            image.load()
            one = image.format in _ONE_FRAME
            picture = image if one else image.copy()  # to ask for further frames, or to close the file, is to lose the first
            return picture, _notes(image, deep)
    except FileFormatError as error:
        raise FileFormatError(f"{source.name} {error}") from None
    except Exception as error:  # Pillow's readers share no base class: a damaged file may raise anything
        raise FileFormatError(f"{source.name} {pictures.reason(error)}") from None


def as_picture(image: Picture | NDArray[np.uint8]) -> Picture:
    """A picture of Pillow's as it is; a uint8 array (H, W) or (H, W, 3) as one.

    Raises:
        ArgumentError: if it is neither.
    """
    if isinstance(image, Picture):
        return image
    shape = getattr(image, "shape", None)
    if shape is None or image.dtype != np.uint8 or image.size == 0 or (len(shape) != 2 and shape[2:] != (3,)):
        what = type(image).__name__ if shape is None else f"{image.dtype} {shape}"
        raise ArgumentError(f"a picture must be a file, a picture of Pillow's, or uint8 (H, W) or (H, W, 3), got {what}.")
    return pictures.from_array(image)


def check_shape(name: str, given: tuple[int, int], size: tuple[int, int]) -> None:
    """Refuse a picture so long and narrow that it would be huge once its shorter side has the size.

    Args:
        name: of the picture.
        given: its width and height, in pixels.
        size: (H, W) that it must cover.

    Raises:
        FileFormatError: if so.
    """
    if (fault := pictures.size_fault(given, size)) is not None:
        raise FileFormatError(f"{name} {fault}")


def _file(source: Source) -> BinaryIO:
    """What Pillow is to open. It must be able to go back in it; and no path: Pillow would map a TIFF, and garble a turned one."""
    if source.data is not None:
        return io.BytesIO(_checked(source.data))
    file = _opened(Path(source.name) if source.path is None else source.path)
    about = os.fstat(file.fileno())
    regular = stat.S_ISREG(about.st_mode)
    if regular and about.st_size > _WHOLE:
        return io.BufferedReader(file)
    with file:
        return io.BytesIO(_checked(file.readall() if regular else _read(file)))


def _read(file: io.FileIO) -> bytes:
    """What a pipe or a device holds, if that is not too much."""
    with io.BufferedReader(file) as buffered:
        return buffered.read(MAX_BYTES + 1)


def _opened(path: Path) -> io.FileIO:
    try:
        return open_at_once(path)
    except OSError:
        if path.is_dir():
            raise FileFormatError("is a folder.") from None
        if path.is_symlink() and not path.exists():
            raise FileFormatError(f"is a link to {path.readlink()}, which does not exist.") from None
        raise


def _checked(data: bytes) -> bytes:
    if not data:
        raise FileFormatError("is empty.")
    if len(data) > MAX_BYTES:
        raise FileFormatError(f"holds more than {MAX_BYTES >> 20} MiB: that is no single picture.")
    return data


def _check_size(image: Picture) -> None:
    if (fault := pictures.size_fault(image.size)) is not None:
        raise FileFormatError(fault)


def _check_depth(image: Picture) -> None:
    if (fault := pictures.depth_fault(image)) is not None:
        raise FileFormatError(fault)


def _notes(image: Picture, deep: bool) -> tuple[str, ...]:
    notes = []
    if image.format != "MPO" and pictures.is_animated(image):
        notes.append("the first of several frames")
    if deep:
        notes.append("16 bits a value brought to 8")
    if pictures.is_transparent(image):
        notes.append("transparency dropped")
    if image.mode == "CMYK":
        notes.append("CMYK to RGB without a colour profile")
    return tuple(notes)
