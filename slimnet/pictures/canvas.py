"""Frames and words drawn on a picture, legible at any size. The façade over Pillow for drawing."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from slimnet.pictures.picture import Picture

_SHARE = 28  # the letters' height is this part of the picture's shorter side …
_PAD = 4
_LEAST_LETTERS, _LEAST_SHRUNK = 15, 9  # … but this many pixels at least, or this many where the words are long

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Canvas:
    """An RGB copy of a picture, to be drawn on.

    Args:
        picture: upright.
        factor: how many times as large the copy is.

    Attributes:
        picture: the copy.
        size: its width and height, in pixels.
    """

    def __init__(self, picture: Picture, factor: int = 1) -> None:
        self.picture = picture.convert("RGB")
        if factor > 1:
            size = self.picture.width * factor, self.picture.height * factor
            self.picture = self.picture.resize(size, Image.Resampling.NEAREST)
        self.size, self._draw = self.picture.size, ImageDraw.Draw(self.picture)

    def frame(self, box: tuple[int, int, int, int], colour: Colour, width: int, *, dashed: bool = False) -> None:
        """The outline of a box (left, top, right, bottom), whole or in dashes of four times its width."""
        if not dashed:
            self._draw.rectangle(box, outline=colour, width=width)
            return
        left, top, right, bottom = box
        for start in range(left, right + 1, 8 * width):
            end = min(start + 4 * width - 1, right)
            self._draw.rectangle((start, top, end, top + width - 1), fill=colour)
            self._draw.rectangle((start, bottom - width + 1, end, bottom), fill=colour)
        for start in range(top, bottom + 1, 8 * width):
            end = min(start + 4 * width - 1, bottom)
            self._draw.rectangle((left, start, left + width - 1, end), fill=colour)
            self._draw.rectangle((right - width + 1, start, right, end), fill=colour)

    def write(self, words: str, where: tuple[int, int], *, ink: Colour, ground: Colour) -> None:
        """Words on a ground of their own, whatever lies beneath."""
        if not words:
            return
        wide, high = self.extent(words)
        x, y = max(0, where[0]), max(0, where[1])
        self._draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=ground)
        self._draw.multiline_text((x + _PAD, y + _PAD), words, fill=ink, font=self._font(words), spacing=_PAD)

    def extent(self, words: str) -> tuple[int, int]:
        """Width and height of the ground under some words, in pixels."""
        return self._extent(words, self._font(words))

    def _extent(self, words: str, font: Font) -> tuple[int, int]:
        box = self._draw.multiline_textbbox((_PAD, _PAD), words, font=font, spacing=_PAD)
        return int(box[2]) + _PAD, int(box[3]) + _PAD

    def _font(self, words: str) -> Font:
        """Letters for a picture of that size; smaller ones where the words would not fit into its width."""
        letters = max(_LEAST_LETTERS, min(self.size) // _SHARE)
        font = ImageFont.load_default(letters)
        wide = self._extent(words, font)[0]
        if wide > self.size[0]:
            font = ImageFont.load_default(max(_LEAST_SHRUNK, int(letters * self.size[0] / wide)))
        return font
