"""A file becomes a picture of 8 bits a channel, or one clear line. The façade over Pillow for reading."""

from __future__ import annotations

import io
import os
import re
import stat
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from slimnet import preprocess
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.files.untrusted import open_at_once
from slimnet.predict.sources import MAX_BYTES, Source

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "PPM", "TIFF", "AVIF")
"""What is tried, told by the content alone: nothing that starts another program (EPS) or holds other files."""

_ONE_FRAME = ("PNG", "JPEG", "PPM")
_WHOLE = 1 << 24  # bytes: a smaller file is read at once
_DEEP = ("PNG", "TIFF")  # where Pillow drops the lower byte of 16-bit colour


def decode(source: Source) -> tuple[Image.Image, tuple[str, ...]]:
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
        with _file(source) as file, Image.open(file, formats=_formats()) as image:
            _check_size(image)
            _check_depth(image)
            deep = _is_deep(image)
            image.load()
            one = image.format in _ONE_FRAME
            picture = image if one else image.copy()  # to ask for further frames, or to close the file, is to lose the first
            return picture, _notes(image, deep)
    except FileFormatError as error:
        raise FileFormatError(f"{source.name} {error}") from None
    except Exception as error:  # Pillow's readers share no base class: a damaged file may raise anything
        raise FileFormatError(f"{source.name} {_reason(error)}") from None


def as_picture(image: Image.Image | NDArray[np.uint8]) -> Image.Image:
    """A picture of Pillow's as it is; a uint8 array (H, W) or (H, W, 3) as one.

    Raises:
        ArgumentError: if it is neither.
    """
    if isinstance(image, Image.Image):
        return image
    shape = getattr(image, "shape", None)
    if shape is None or image.dtype != np.uint8 or image.size == 0 or (len(shape) != 2 and shape[2:] != (3,)):
        what = type(image).__name__ if shape is None else f"{image.dtype} {shape}"
        raise ArgumentError(f"a picture must be a file, a picture of Pillow's, or uint8 (H, W) or (H, W, 3), got {what}.")
    return Image.fromarray(image)


def check_shape(name: str, given: tuple[int, int], size: tuple[int, int]) -> None:
    """Refuse a picture so long and narrow that it would be huge once its shorter side has the size.

    Args:
        name: of the picture.
        given: its width and height, in pixels.
        size: (H, W) that it must cover.

    Raises:
        FileFormatError: if so.
    """
    if (fault := preprocess.size_fault(given, size)) is not None:
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


@cache
def _formats() -> tuple[str, ...]:
    """Those that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_size(image: Image.Image) -> None:
    if (fault := preprocess.size_fault(image.size)) is not None:
        raise FileFormatError(fault)


def _check_depth(image: Image.Image) -> None:
    if (fault := preprocess.depth_fault(image)) is not None:
        raise FileFormatError(fault)


def _is_deep(image: ImageFile) -> bool:
    """Whether it has 16 bits a value; to be asked before it is loaded."""
    return preprocess.is_deep_grey(image) or (image.format in _DEEP and any(";16" in str(tile[3]) for tile in image.tile[:1]))


def _notes(image: Image.Image, deep: bool) -> tuple[str, ...]:
    notes = []
    if image.format != "MPO" and _is_animated(image):
        notes.append("the first of several frames")
    if deep:
        notes.append("16 bits a value brought to 8")
    if _is_transparent(image):
        notes.append("transparency dropped")
    if image.mode == "CMYK":
        notes.append("CMYK to RGB without a colour profile")
    return tuple(notes)


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the first frame was read: a damaged second one is no matter
        return True


def _is_transparent(image: Image.Image) -> bool:
    """Whether some pixel is not opaque."""
    if image.mode in ("RGBA", "LA", "PA"):
        return image.getchannel("A").getextrema()[0] != 255
    return "transparency" in image.info


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist."
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        found = re.search(r"\d+", str(error))
        return (preprocess.size_fault((int(found[0]), 1)) if found else None) or "is too large to be decoded."
    if isinstance(error, UnidentifiedImageError):
        return f"is no picture that can be read: known are {', '.join(_formats())}."
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})."
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"is damaged or cut short ({reason[:120]})."
