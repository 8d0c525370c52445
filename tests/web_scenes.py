"""Pictures of several faces that are drawn here: of nobody, and of no data set."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

SKIN = ((226, 186, 156), (198, 150, 116), (150, 104, 74), (104, 70, 52), (240, 208, 186))
HAIR = ((70, 48, 34), (30, 24, 22), (150, 110, 60), (120, 120, 122))
MOODS = ("happy", "sad", "surprise", "neutral")


def face(side: int, mood: str, *, skin: int = 0, hair: int = 0, tilt: float = 0.0) -> Image.Image:
    """A face with hair, seen through around it.

    Args:
        side: pixels of the square that it fills.
        mood: what mouth and brows say, one of ``MOODS``.
        skin: which of ``SKIN``.
        hair: which of ``HAIR``.
        tilt: degrees.
    """
    large = 480
    image = Image.new("RGBA", (large, large))
    draw = ImageDraw.Draw(image)
    skin_colour, hair_colour = SKIN[skin % len(SKIN)], HAIR[hair % len(HAIR)]
    draw.ellipse((95, 45, 385, 320), fill=hair_colour)
    draw.ellipse((100, 60, 380, 450), fill=skin_colour, outline=hair_colour, width=4)
    draw.pieslice((95, 40, 385, 300), 180, 360, fill=hair_colour)
    draw.ellipse((122, 130, 358, 420), fill=skin_colour)
    slope = {"sad": 16, "surprise": 4, "happy": 0, "neutral": 0}[mood]
    open_eyes = 30 if mood == "surprise" else 18
    for sign in (-1, 1):
        x = 240 + sign * 58
        draw.ellipse((x - 30, 220 - open_eyes, x + 30, 220 + open_eyes), fill="white", outline=(50, 40, 34), width=3)
        draw.ellipse((x - 13, 207, x + 13, 233), fill=(50, 36, 26))
        lift = 24 if mood == "surprise" else 0
        draw.line((x - sign * 34, 178 - lift - slope, x + sign * 36, 178 - lift + slope), fill=hair_colour, width=10)
    draw.line((240, 225, 228, 290, 248, 296), fill=tuple(int(0.75 * level) for level in skin_colour), width=5, joint="curve")
    lips = (150, 50, 50)
    if mood == "happy":
        draw.chord((170, 270, 310, 390), 10, 170, fill=lips)
        draw.chord((184, 296, 296, 372), 14, 166, fill="white")
    elif mood == "sad":
        draw.arc((190, 340, 290, 420), 200, 340, fill=lips, width=10)
    elif mood == "surprise":
        draw.ellipse((212, 320, 268, 396), fill=lips)
    else:
        draw.line((196, 350, 284, 350), fill=lips, width=10)
    turned = image.rotate(tilt, Image.Resampling.BICUBIC)
    return turned.resize((side, side), Image.Resampling.LANCZOS)


def scene(width: int, height: int, faces: int, *, seed: int = 0) -> Image.Image:
    """Faces of several sizes, side by side before a wall that is lit from one side.

    Args:
        width: pixels.
        height: pixels.
        faces: how many.
        seed: of where they stand and what they look like.
    """
    rng = np.random.default_rng([seed, width, height, faces])
    light = np.linspace(0.55, 1.0, width)[None, :, None] * np.linspace(1.0, 0.8, height)[:, None, None]
    wall = light * np.array([205.0, 196.0, 180.0]) + rng.normal(0, 3, (height, width, 1))
    picture = Image.fromarray(wall.clip(0, 255).astype(np.uint8))
    columns = min(faces, math.ceil(math.sqrt(faces * width / height)))
    rows = -(-faces // columns)
    cell_width, cell_height = width // columns, height // rows
    for number in range(faces):
        side = int(min(cell_width, cell_height) * rng.uniform(0.5, 0.95))
        row, column = divmod(number, columns)
        at = (
            column * cell_width + int(rng.integers(0, cell_width - side + 1)),
            row * cell_height + int(rng.integers(0, cell_height - side + 1)),
        )
        one = face(side, MOODS[number % len(MOODS)], skin=number + seed, hair=number, tilt=float(rng.uniform(-15, 15)))
        picture.paste(one, at, one)
    return picture
