"""Boxes and labels drawn into a picture, legible at any size."""

from __future__ import annotations

from pathlib import Path

from slimnet.files import write_bytes
from slimnet.pictures.canvas import Canvas
from slimnet.pictures.picture import Picture, encoded
from slimnet.predict.results import UNSURE, Box, Prediction, Result

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
"""Ending of a file → its format."""

LONG, SHORT, MOST = 480, 240, 32  # pixels: smaller pictures are enlarged, at most so many times, or no label would fit
LABEL = 24  # letters of it: a longer one is shortened
PALE, DARK, GREY = (255, 214, 10), (16, 16, 16), (214, 214, 214)


def annotated(picture: Picture, result: Result) -> Picture:
    """A copy of a picture with its faces boxed and named, or with its classes in the corner.

    An unsure answer is grey, its box is dashed, and its words say so.

    Args:
        picture: upright; small ones are enlarged by a whole number.
        result: of this picture.

    Returns:
        An RGB picture.
    """
    factor = min(MOST, max(-(-LONG // max(picture.size)), -(-SHORT // min(picture.size))))
    canvas = Canvas(picture, factor)
    told = [prediction.told for prediction in result.predictions]
    boxed = [prediction for prediction in told if prediction.box is not None]
    for prediction in boxed:
        _draw_face(canvas, prediction, factor)
    if not boxed:
        words = [line for p in told for line in _lines(p)] or list(result.notes[-1:])
        unsure = any(p.unsure for p in told)
        canvas.write("\n".join(words), (0, 0), ink=DARK, ground=GREY if unsure else PALE)
    return canvas.picture


def save_picture(picture: Picture, path: Path) -> None:
    """Write a picture whole or not at all; its ending, one of `PICTURES`, says the format."""
    write_bytes(path, encoded(picture, PICTURES[path.suffix.lower()]), parents=True)


def _lines(prediction: Prediction) -> list[str]:
    """A line a class, the likeliest first."""
    told = [_words(candidate.label, candidate.probability) for candidate in prediction.top]
    return [UNSURE, *told] if prediction.unsure else told


def _words(label: str, probability: float) -> str:
    shown = label if len(label) <= LABEL else f"{label[: LABEL - 1].rstrip()}…"
    return f"{shown} {100 * probability:.0f} %"


def _draw_face(canvas: Canvas, prediction: Prediction, factor: int) -> None:
    x, y, width, height = (value * factor for value in prediction.box or Box(0, 0, 0, 0))
    line = max(2, min(canvas.size) // 200)
    right, bottom = x + width - 1, y + height - 1
    canvas.frame((x - line, y - line, right + line, bottom + line), DARK, line)
    ground = GREY if prediction.unsure else PALE
    canvas.frame((x, y, right, bottom), ground, line, dashed=prediction.unsure)
    words = _words(prediction.label, prediction.probability)
    words = f"{UNSURE}: {words}" if prediction.unsure else words
    wide, high = canvas.extent(words)
    above, below = y - line - high, y + height + line
    top = above if above >= 0 else below if below + high <= canvas.size[1] else y + line
    canvas.write(words, (min(x - line, canvas.size[0] - wide), top), ink=DARK, ground=ground)
