"""The data that each tutorial says the reader has, small enough to be trained on in a test."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {"Training": 350, "PublicTest": 70, "PrivateTest": 70}
HEADER = ("emotion", "pixels", "Usage")
Row = tuple[str, str, str]


def expressions(folder: Path) -> None:
    """``data/fer2013.csv``: some rows of the real one, where there is one; else made ones."""
    real = Path(os.environ.get("SLIMNET_DATA", "")) / "fer2013" / "fer2013.csv"
    rows = _some(real) if real.is_file() else chain.from_iterable(_made(usage, count) for usage, count in SIZES.items())
    _write(folder / "data" / "fer2013.csv", rows)


def timm(folder: Path) -> None:
    """``pictures/``: one folder a class, of stripes as wide as the class says; sizes and formats are mixed."""
    random = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog", "чайка")):
        (folder / "pictures" / name).mkdir(parents=True)
        for item in range(24):
            width, height = random.integers(60, 120, 2)
            stripes = (np.arange(width) // (4 << number) % 2 * 160)[None, :, None]
            pixels = (stripes + random.integers(0, 90, (height, width, 3))).astype(np.uint8)
            picture = Image.fromarray(pixels).convert("L" if item % 8 == 0 else "RGB")
            picture.save(folder / "pictures" / name / f"{item}.{('jpg', 'png')[item % 2]}")


PREPARE: dict[str, Callable[[Path], None]] = {"expressions": expressions, "timm": timm}
"""Tutorial → what makes its data in a folder; one that is not here needs none."""


def _some(path: Path) -> Iterator[Row]:
    """As many rows of each class in each split."""
    held: Counter[tuple[str, str]] = Counter()
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = row["Usage"], row["emotion"]
            if held[key] < SIZES[row["Usage"]] // 7:
                held[key] += 1
                yield row["emotion"], row["pixels"], row["Usage"]
            elif sum(held.values()) == sum(SIZES.values()):
                return


def _made(usage: str, count: int) -> Iterator[Row]:
    """Noise with a bright bar, whose height is the class."""
    random = np.random.default_rng(len(usage))
    for number in range(count):
        picture = random.integers(0, 100, (48, 48))
        picture[6 * (number % 7) : 6 * (number % 7) + 6] += 120
        yield str(number % 7), " ".join(map(str, picture.reshape(-1))), usage


def _write(path: Path, rows: Iterable[Row]) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])
