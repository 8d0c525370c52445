"""Boxes and labels drawn into a picture, legible at any size. The façade over Pillow for drawing and writing."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from slimnet.files import write_bytes
from slimnet.predict.results import Box, Prediction, Result

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
"""Ending of a file → its format."""

LONG, SHORT, MOST = 480, 240, 32  # pixels: smaller pictures are enlarged, at most so many times, or no label would fit
LABEL = 24  # letters of it: a longer one is shortened
PALE, DARK = (255, 214, 10), (16, 16, 16)
_SHARE = 28  # the letters' height is this part of the picture's shorter side …
_PAD = 4
_LEAST_LETTERS, _LEAST_SHRUNK = 15, 9  # … but this many pixels at least, or this many where the words are long

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def annotated(picture: Image.Image, result: Result) -> Image.Image:
    """A copy of a picture with its faces boxed and named, or with its classes in the corner.

    Args:
        picture: upright; small ones are enlarged by a whole number.
        result: of this picture.

    Returns:
        An RGB picture.
    """
    factor = min(MOST, max(-(-LONG // max(picture.size)), -(-SHORT // min(picture.size))))
    drawn = picture.convert("RGB")
    if factor > 1:
        drawn = drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(drawn)
    boxed = [prediction for prediction in result.predictions if prediction.box is not None]
    for prediction in boxed:
        _draw_face(draw, drawn.size, prediction, factor)
    if not boxed:
        words = [_words(c.label, c.probability) for p in result.predictions for c in p.top] or list(result.notes[-1:])
        _draw_words(draw, drawn.size, "\n".join(words), (0, 0))
    return drawn


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture whole or not at all; its ending, one of `PICTURES`, says the format."""
    drawn = io.BytesIO()
    picture.save(drawn, format=PICTURES[path.suffix.lower()])
    write_bytes(path, drawn.getvalue(), parents=True)


def _words(label: str, probability: float) -> str:
    shown = label if len(label) <= LABEL else f"{label[: LABEL - 1].rstrip()}…"
    return f"{shown} {100 * probability:.0f} %"


def _draw_face(draw: ImageDraw.ImageDraw, size: tuple[int, int], prediction: Prediction, factor: int) -> None:
    x, y, width, height = (value * factor for value in prediction.box or Box(0, 0, 0, 0))
    line = max(2, min(size) // 200)
    right, bottom = x + width - 1, y + height - 1
    draw.rectangle((x - line, y - line, right + line, bottom + line), outline=DARK, width=line)
    draw.rectangle((x, y, right, bottom), outline=PALE, width=line)
    words = _words(prediction.label, prediction.probability)
    wide, high = _extent(draw, words, _font(draw, size, words))
    above, below = y - line - high, y + height + line
    top = above if above >= 0 else below if below + high <= size[1] else y + line
    _draw_words(draw, size, words, (min(x - line, size[0] - wide), top))


def _draw_words(draw: ImageDraw.ImageDraw, size: tuple[int, int], words: str, where: tuple[int, int]) -> None:
    """Dark letters on a pale ground, whatever lies beneath."""
    if not words:
        return
    font = _font(draw, size, words)
    wide, high = _extent(draw, words, font)
    x, y = max(0, where[0]), max(0, where[1])
    draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=PALE)
    draw.multiline_text((x + _PAD, y + _PAD), words, fill=DARK, font=font, spacing=_PAD)


def _extent(draw: ImageDraw.ImageDraw, words: str, font: Font) -> tuple[int, int]:
    """Width and height of the ground under some words, in pixels."""
    box = draw.multiline_textbbox((_PAD, _PAD), words, font=font, spacing=_PAD)
    return int(box[2]) + _PAD, int(box[3]) + _PAD


def _font(draw: ImageDraw.ImageDraw, size: tuple[int, int], words: str) -> Font:
    """Letters for a picture of that size; smaller ones where the words would not fit into its width."""
    letters = max(_LEAST_LETTERS, min(size) // _SHARE)
    font = ImageFont.load_default(letters)
    wide = _extent(draw, words, font)[0]
    if wide > size[0]:
        font = ImageFont.load_default(max(_LEAST_SHRUNK, int(letters * size[0] / wide)))
    return font
