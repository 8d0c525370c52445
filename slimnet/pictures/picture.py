"""A picture: opened, looked at before it is decoded, brought to 8 bits and a size, encoded. The façade over Pillow."""

from __future__ import annotations

import io
import math
import re
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from slimnet.errors import ArgumentError, whole_text

Picture = Image.Image

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "PPM", "TIFF", "AVIF")
"""What is tried, told by the content alone: nothing that starts another program (EPS) or holds other files."""

_MODES = {1: "L", 3: "RGB"}
_CONVERTED = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}
"""Modes that Pillow brings to grey and RGB."""
_SHIFT = 8  # of 16 bits to 8: the upper byte, as Pillow does it in colour
_DEEP = ("PNG", "TIFF")  # where Pillow drops the lower byte of 16-bit colour
_ORIENTATION = 0x0112  # the EXIF tag
_LYING = 5  # EXIF orientations from here on swap height and width
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
BROKEN = (OSError, ValueError, SyntaxError, EOFError, *_BOMBS)
"""What Pillow raises at a damaged file, mostly."""


def open_picture(file: BinaryIO, *, known_only: bool = False) -> ImageFile:
    """A picture of which only the header is read.

    Args:
        file: not a path: Pillow would map a TIFF, and garble a turned one.
        known_only: try those of :data:`FORMATS` alone.
    """
    return Image.open(file, formats=_formats() if known_only else None)


def from_array(pixels: NDArray[Any]) -> Picture:
    """A picture of uint8 (H, W) or (H, W, 3)."""
    return Image.fromarray(pixels)


def encoded(picture: Picture, kind: str) -> bytes:
    """A picture as a file of a format, by Pillow's name of it."""
    file = io.BytesIO()
    picture.save(file, format=kind)
    return file.getvalue()


def converted(image: Picture, channels: int) -> Picture:
    """Upright, 8 bits a channel, and grey (1 channel) or RGB (3); transparency is dropped.

    Raises:
        ArgumentError: if :func:`depth_fault` refuses the picture.
    """
    if (fault := depth_fault(image)) is not None:
        raise ArgumentError(f"the picture {fault}")
    image.load()  # before EXIF is asked for: a PNG may have it at its end
    deep = is_deep_grey(image)
    if orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if deep:
        image = Image.fromarray((np.asarray(image) >> _SHIFT).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "YCbCr":
        image = image.convert("RGB")  # its Y is not quite the grey that all other pictures get
    mode = _MODES[channels]
    return image if image.mode == mode else image.convert(mode)


def is_deep_grey(image: Picture) -> bool:
    """Whether it is grey with 16 bits a value."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def depth_fault(image: Picture) -> str | None:
    """Why a picture cannot be brought to 8 bits a channel; None if it can."""
    if image.mode in _CONVERTED or is_deep_grey(image):
        return None
    if image.mode not in ("I", "F"):
        return f"has colours (mode {image.mode}) that cannot be brought to RGB here: convert it to RGB."
    return f"has 32 bits a value (mode {image.mode}), and nothing says which is white: convert it to 8 bits."


def size_fault(given: tuple[int, int], size: tuple[int, int] | None = None) -> str | None:
    """Why a picture is too large to be decoded, or would be once it covers a size; None if it is not.

    Args:
        given: its width and height, in pixels.
        size: (H, W) that it is to cover.
    """
    width, height = given
    most = most_pixels()
    if width * height > most:
        return f"has {width * height:,} pixels: at most {most:,} are decoded. Make it smaller first."
    if size is not None and max(1.0, size[0] / height, size[1] / width) ** 2 * width * height > most:
        return f"is {width:,}×{height:,} pixels: too narrow to be brought to {size[1]}×{size[0]}; crop it first."
    return None


def fitted(image: Picture, size: tuple[int, int]) -> Picture:
    """Resized (bilinear, antialiased) to cover (H, W), then cropped at its centre; see :data:`slimnet.preprocess.RESIZE`."""
    height, width = size
    if (image.height, image.width) == size:
        return image
    scale = max(height / image.height, width / image.width)
    covering = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    image = resized(image, covering)
    left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
    return image.crop((left, top, left + width, top + height))


def resized(image: Picture, size: tuple[int, int]) -> Picture:
    """Brought to (width, height), whatever its shape was: bilinear, antialiased, first the width and then the height."""
    for target in ((size[0], image.height), size):  # one pass each: Pillow 13 turns the order round for tall pictures
        image = image.resize(target, Image.Resampling.BILINEAR)
    return image


def turned(image: Picture, box: tuple[int, int, int, int], degrees: float) -> Picture:
    """What a box (left, top, right, bottom) shows once the picture is turned counterclockwise about its centre: bilinear.

    What lies outside of the picture is black. Not more of the picture is turned than is needed.
    """
    left, top, right, bottom = box
    reach = int(math.hypot(right - left, bottom - top) / 2) + 2
    x, y = (left + right) / 2, (top + bottom) / 2
    edges = (int(x) - reach, int(y) - reach, int(x) + reach + 1, int(y) + reach + 1)
    around = image.crop(edges).rotate(degrees, Image.Resampling.BILINEAR, center=(x - edges[0], y - edges[1]))
    return around.crop((left - edges[0], top - edges[1], right - edges[0], bottom - edges[1]))


def orientation(image: Picture) -> int:
    """How a camera was held, 1 (upright) to 8, as EXIF has it; 1 where it says nothing or cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF raises what it likes, and says nothing about the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def is_lying(image: Picture) -> bool:
    """Whether height and width change places when it is turned upright."""
    return "exif" in image.info and orientation(image) >= _LYING


def is_plain_jpeg(image: Picture) -> bool:
    """Whether it is an upright JPEG in grey or in the usual three colours."""
    return image.format == "JPEG" and image.mode in ("L", "RGB") and orientation(image) == 1


def is_deep(image: ImageFile) -> bool:
    """Whether it has 16 bits a value, in grey or in colour; to be asked before it is loaded."""
    return is_deep_grey(image) or (image.format in _DEEP and any(";16" in str(tile[3]) for tile in image.tile[:1]))


def is_animated(image: Picture) -> bool:
    """Whether it has several frames."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the first frame was read: a damaged second one is no matter
        return True


def is_transparent(image: Picture) -> bool:
    """Whether some pixel is not opaque."""
    if image.mode in ("RGBA", "LA", "PA"):
        return image.getchannel("A").getextrema()[0] != 255
    return "transparency" in image.info


def is_bomb(error: Exception) -> bool:
    """Whether Pillow refuses a picture for its number of pixels."""
    return isinstance(error, _BOMBS)


def most_pixels() -> int:
    """Of a picture that is decoded."""
    return Image.MAX_IMAGE_PIXELS or 1 << 62


def reason(error: Exception) -> str:
    """Why a picture cannot be read, by what was raised."""
    if isinstance(error, FileNotFoundError):
        return "does not exist."
    if is_bomb(error):
        found = re.search(r"\d+", str(error))
        return (size_fault((int(found[0]), 1)) if found else None) or "is too large to be decoded."
    if isinstance(error, UnidentifiedImageError):
        return f"is no picture that can be read: known are {', '.join(_formats())}."
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})."
    what = whole_text(error)
    return f"is damaged or cut short ({what[:120]})."


@cache
def _formats() -> tuple[str, ...]:
    """Those that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
