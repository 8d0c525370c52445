"""A file becomes a picture of 8 bits a channel, or one clear line. The façade over Pillow for reading."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from slimnet.errors import ArgumentError, FileFormatError
from slimnet.predict.sources import MAX_BYTES, Source

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "PPM", "TIFF", "AVIF")
"""What is tried, told by the content alone: nothing that starts another program (EPS) or holds other files."""

_ONE_FRAME = ("PNG", "JPEG")
_UNDECODED = ("I", "F")  # 32 bits a value: nobody knows which value is white


def decode(source: Source) -> tuple[Image.Image, tuple[str, ...]]:
    """Read a picture: its first frame, as it lies in the file (EXIF orientation and colour are for `slimnet.preprocess`).

    16-bit grey is brought to 8 bits. The size is looked at before anything is decoded.

    Args:
        source: what to read.

    Returns:
        The picture, loaded, and notes on what was left out or changed.

    Raises:
        FileFormatError: if it is missing, no picture, empty, cut short, damaged or too large; the line names it.
    """
    if source.fault is not None:
        raise FileFormatError(source.fault)
    if source.image is not None:
        return _eight_bits(source.image), ()
    try:
        with _file(source) as file, Image.open(file, formats=_formats()) as image:
            _check_size(image)
            image.load()
            picture = _eight_bits(image)
            if picture is image and image.format not in _ONE_FRAME:
                picture = image.copy()  # to ask for further frames, or to close the file, is to lose the first
            return picture, _notes(image)
    except FileFormatError as error:
        raise FileFormatError(f"{source.name} {error}") from None
    except Exception as error:  # Pillow's readers share no base class: a damaged file may raise anything
        raise FileFormatError(f"{source.name} {_reason(source, error)}") from None


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


def check_shape(width: int, height: int, size: tuple[int, int]) -> None:
    """Refuse a picture so long and narrow that it would be huge once its shorter side has the size.

    Args:
        width: of the picture, in pixels.
        height: likewise.
        size: (H, W) that the picture must cover.

    Raises:
        FileFormatError: without the name of the picture.
    """
    scale = max(size[0] / height, size[1] / width)
    if max(1.0, scale**2) * width * height > _limit():
        raise FileFormatError(f"is {width:,}×{height:,} pixels: too narrow to be brought to {size[1]}×{size[0]}; crop it first.")


def _file(source: Source) -> BinaryIO:
    """What Pillow is to open. It must be able to go back in it; and no path: Pillow would map a TIFF, and garble a turned one."""
    if source.data is not None:
        return io.BytesIO(_checked(source.data))
    path = Path(source.name) if source.path is None else source.path
    if path.is_file():
        return path.open("rb")
    if path.is_symlink() and not path.exists():
        raise FileFormatError(f"is a link to {path.readlink()}, which does not exist.")
    if path.is_dir():
        raise FileFormatError("is a folder.")
    with path.open("rb") as stream:  # a pipe, or a device
        return io.BytesIO(_checked(stream.read(MAX_BYTES + 1)))


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


def _limit() -> int:
    return Image.MAX_IMAGE_PIXELS or 1 << 62


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > _limit():
        raise FileFormatError(_too_large(image.width * image.height))


def _too_large(pixels: int) -> str:
    return f"has {pixels:,} pixels: at most {_limit():,} are decoded. Make it smaller first."


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, white staying white."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return Image.fromarray(((np.asarray(image, np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in _UNDECODED:
        raise FileFormatError(f"has 32 bits a value (mode {image.mode}), and nothing says which is white: convert it to 8 bits.")
    return image


def _notes(image: Image.Image) -> tuple[str, ...]:
    found = {
        "the first of several frames": image.format != "MPO" and _is_animated(image),
        "16 bits a value brought to 8": image.mode.startswith("I"),
        "transparency dropped": _is_transparent(image),
        "CMYK to RGB without a colour profile": image.mode == "CMYK",
    }
    return tuple(note for note, holds in found.items() if holds)


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


def _reason(source: Source, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist."
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        found = re.search(r"\d+", str(error))
        return _too_large(int(found[0])) if found else "is too large to be decoded."
    if isinstance(error, UnidentifiedImageError):
        empty = source.path is not None and source.path.is_file() and source.path.stat().st_size == 0
        return "is empty." if empty else f"is no picture that can be read: known are {', '.join(_formats())}."
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})."
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"is damaged or cut short ({reason[:120]})."
