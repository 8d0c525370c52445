"""Pictures with faces whose places are known: real photographs with boxes drawn by hand, and scenes composed of real faces.

The photographs are those that packages ship; none of them is in slimnet's tree. Boxes were drawn by looking at the pictures:
from the hairline to the chin, from ear to ear as far as one sees them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _detectors import member, source
from PIL import Image

FACE_API, INSIGHT = "vladmandic-face-api-1.7.15.tgz", "insightface-2.1-py3-none-any.whl"
RECOGNITION, SCIKIT = "face_recognition-1.3.0.tar.gz", "scikit_image-0.26.0.whl"
WIDTH, HEIGHT = 1280, 960  # of a scene
SIDES = (24, 32, 48, 64, 96, 128, 192, 256, 400)
TILTS = (0, 15, 30, 45)
DARK = 0.2  # of the light is left on the dark side of a half-lit face


@dataclass(frozen=True)
class Truth:
    """A face that is there: its box in pixels, and what is known of it."""

    x: float
    y: float
    width: float
    height: float
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """A picture, and the faces in it."""

    name: str
    picture: Image.Image
    faces: tuple[Truth, ...]


# archive, file, width at which the boxes were drawn, boxes (x, y, width, height), number of the one in profile
PHOTOGRAPHS: tuple[tuple[str, str, int, tuple[tuple[int, int, int, int], ...], int | None], ...] = (
    (FACE_API, "package/demo/sample1.jpg", 1280, ((275, 235, 135, 165), (550, 285, 140, 155), (985, 135, 145, 165)), None),
    (FACE_API, "package/demo/sample2.jpg", 1280, ((243, 85, 100, 195), (605, 170, 110, 130), (955, 100, 145, 160)), 0),
    (FACE_API, "package/demo/sample3.jpg", 1280, ((395, 220, 140, 185), (715, 125, 155, 215), (1010, 185, 120, 205)), None),
    (FACE_API, "package/demo/sample4.jpg", 1263,
     ((180, 130, 95, 165), (435, 40, 130, 170), (650, 115, 130, 160), (840, 90, 95, 170)), None),
    (FACE_API, "package/demo/sample5.jpg", 1280,
     ((265, 580, 110, 205), (405, 290, 110, 165), (515, 70, 118, 150), (745, 135, 115, 160), (945, 265, 115, 185)), None),
    (FACE_API, "package/demo/sample6.jpg", 1224,
     ((160, 305, 140, 180), (425, 205, 115, 200), (750, 185, 125, 175), (945, 160, 145, 195)), None),
    (INSIGHT, "insightface/data/images/t1.jpg", 1280,
     ((62, 262, 105, 140), (270, 145, 115, 120), (467, 265, 115, 140), (745, 335, 115, 145), (905, 55, 125, 150),
      (1135, 265, 95, 130)), None),
    (INSIGHT, "insightface/data/images/Tom_Hanks_54745.png", 112, ((30, 15, 60, 80),), None),
    (SCIKIT, "skimage/data/astronaut.png", 512, ((186, 68, 85, 100),), None),
    (RECOGNITION, "face_recognition-1.3.0/tests/test_images/obama.jpg", 910, ((385, 90, 225, 300),), None),
    (RECOGNITION, "face_recognition-1.3.0/tests/test_images/obama2.jpg", 626, ((215, 215, 260, 340),), None),
    (RECOGNITION, "face_recognition-1.3.0/tests/test_images/obama3.jpg", 1434, ((613, 283, 294, 334),), None),
    (RECOGNITION, "face_recognition-1.3.0/tests/test_images/obama_partial_face.jpg", 491, ((0, 122, 203, 325),), None),
    (RECOGNITION, "face_recognition-1.3.0/tests/test_images/obama_partial_face2.jpg", 551, ((385, 130, 166, 320),), None),
    (RECOGNITION, "face_recognition-1.3.0/tests/test_images/biden.jpg", 970, ((406, 173, 324, 441),), None),
)  # fmt: skip
FRONTAL = {"sample1.jpg": (0, 2), "sample3.jpg": (0, 1, 2), "sample4.jpg": (1,), "sample5.jpg": (1, 2, 3, 4),
           "sample6.jpg": (0, 1, 2, 3), "t1.jpg": (2, 3, 5), "astronaut.png": (0,), "obama.jpg": (0,), "obama2.jpg": (0,),
           "biden.jpg": (0,)}  # fmt: skip
"""Photographs → numbers of their faces that scenes are composed of: they look at the camera, and no one stands before them."""

EMPTY = ("brick.png", "cell.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png",
         "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png", "horse.png",
         "clock_motion.png")  # fmt: skip
"""Of scikit-image: no face of a person (a cat's in one). Left out: coins and the cameraman."""
MASKS = ("mask_black.jpg", "mask_blue.jpg", "mask_green.jpg", "mask_white.jpg")  # of insightface, of cloth, without a face


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def photographs(folder: Path) -> Iterator[Scene]:
    """The real ones."""
    for archive, name, width, boxes, profile in PHOTOGRAPHS:
        picture = _opened(member(source(folder, archive), name))
        scale = picture.width / width
        faces = [Truth(*(value * scale for value in each), {"profile": number == profile}) for number, each in enumerate(boxes)]
        yield Scene(name.rpartition("/")[2], picture, tuple(faces))


def empty(folder: Path) -> Iterator[Scene]:
    """Pictures without a face."""
    from sklearn.datasets import load_sample_image

    for name in EMPTY:
        yield Scene(name, _opened(member(source(folder, SCIKIT), f"skimage/data/{name}")), ())
    for name in MASKS:
        yield Scene(name, _opened(member(source(folder, INSIGHT), f"insightface/data/images/{name}")), ())
    for name in ("china.jpg", "flower.jpg"):
        yield Scene(name, Image.fromarray(load_sample_image(name)), ())


@dataclass(frozen=True)
class Head:
    """A face to be put into scenes: a piece of a picture, and the face's box in it."""

    picture: Image.Image
    face: Truth
    label: int | None = None


def portraits(scenes: Sequence[Scene]) -> list[Head]:
    """Heads with what is around them, of the photographs."""
    heads = []
    for scene in scenes:
        for number in FRONTAL.get(scene.name, ()):
            f = scene.faces[number]
            left, top = max(0.0, f.x - 0.7 * f.width), max(0.0, f.y - 0.6 * f.height)
            right = min(scene.picture.width, f.x + 1.7 * f.width)
            bottom = min(scene.picture.height, f.y + 1.6 * f.height)
            piece = scene.picture.crop(tuple(map(round, (left, top, right, bottom))))
            heads.append(Head(piece, Truth(f.x - round(left), f.y - round(top), f.width, f.height)))
    return heads


def tight(images: Any, labels: Any) -> list[Head]:
    """FER2013's faces: 48×48 and cut as the cascade found them, so that the box is all that there is."""
    pairs = zip(images[:, 0].numpy(), labels.tolist(), strict=True)
    return [Head(Image.fromarray(each).convert("RGB"), Truth(0, 0, 48, 48), label) for each, label in pairs]


def composed(name: str, heads: Sequence[Head], grounds: Sequence[Image.Image], count: int, seed: int) -> Iterator[Scene]:
    """Scenes of several heads each: sizes, tilts and light of all kinds, on grounds with texture.

    Args:
        name: of the kind.
        heads: to choose from.
        grounds: pictures without faces.
        count: of scenes.
        seed: they are a function of it.
    """
    rng = np.random.default_rng(seed)
    for number in range(count):
        scene = _covering(grounds[rng.integers(len(grounds))])
        faces: list[Truth] = []
        for _ in range(6):
            side, tilt = int(rng.choice(SIDES)), int(rng.choice(TILTS)) * int(rng.choice((-1, 1)))
            lit = "half" if rng.random() < 0.4 else "even"
            placed = _put(scene, heads[rng.integers(len(heads))], side, tilt, lit, faces, rng)
            faces += [placed] if placed is not None else []
        yield Scene(f"{name} {number}", scene, tuple(faces))


def _covering(ground: Image.Image) -> Image.Image:
    scale = max(WIDTH / ground.width, HEIGHT / ground.height)
    large = ground.resize((-(-int(ground.width * scale) // 1) + 1, int(ground.height * scale) + 1), Image.Resampling.BICUBIC)
    return large.crop((0, 0, WIDTH, HEIGHT))


def _put(
    scene: Image.Image, head: Head, side: int, tilt: int, lit: str, others: Sequence[Truth], rng: np.random.Generator
) -> Truth | None:
    """Paste a head, in place; None where no room was found for it."""
    scale = side / np.sqrt(head.face.width * head.face.height)
    piece = head.picture.resize([max(2, round(length * scale)) for length in head.picture.size], Image.Resampling.BICUBIC)
    x, y, width, height = (getattr(head.face, name) * scale for name in ("x", "y", "width", "height"))
    centre = np.array([x + width / 2, y + height / 2])
    pixels = np.asarray(piece, np.float32)
    if lit == "half":
        across = (np.arange(piece.width) - centre[0]) / width * int(rng.choice((-1, 1)))
        pixels = pixels * (DARK + (1 - DARK) / (1 + np.exp(-12 * across)))[None, :, None]
    piece, mask = Image.fromarray(pixels.astype(np.uint8)), _feathered(piece.size, is_tight=width > 0.9 * piece.width)
    reach = int(np.hypot(*piece.size)) + 2  # room to turn about the face's centre
    room, hole = Image.new("RGB", (2 * reach, 2 * reach)), Image.new("L", (2 * reach, 2 * reach))
    corner = tuple((reach - np.round(centre)).astype(int))
    room.paste(piece, corner)
    hole.paste(mask, corner)
    room, hole = (each.rotate(tilt, Image.Resampling.BICUBIC) for each in (room, hole))
    for _ in range(20):
        at = rng.uniform((width / 2, height / 2), (WIDTH - width / 2, HEIGHT - height / 2))
        apart = [max(abs(o.x + o.width / 2 - at[0]) / (o.width + width), abs(o.y + o.height / 2 - at[1]) / (o.height + height))
                 for o in others]  # fmt: skip
        if all(distance > 1.3 for distance in apart):
            place = np.round(at - reach).astype(int)
            scene.paste(room, tuple(place), hole)
            about = {"side": side, "tilt": abs(tilt), "light": lit, "label": head.label}
            return Truth(at[0] - width / 2, at[1] - height / 2, width, height, about)
    return None


def _feathered(size: tuple[int, int], *, is_tight: bool) -> Image.Image:
    """How much of a piece is seen: all but its edge where it is cut tightly, else an oval."""
    width, height = size
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    far = np.maximum(abs(x), abs(y)) if is_tight else np.hypot(x, y)
    return Image.fromarray((255 * np.clip((1 - far) / 0.15, 0, 1)).astype(np.uint8))
