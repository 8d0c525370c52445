"""Data sets of faces as their authors lay them out: RAF-DB and AffectNet.

References:
    Li, Deng & Du, *Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in the Wild*,
    CVPR 2017.
    Mollahosseini, Hasani & Mahoor, *AffectNet*, IEEE Transactions on Affective Computing, 2017.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from slimnet.data._lines import read_lines, shown
from slimnet.data.layouts import pictures_below, roles, what_is_there
from slimnet.data.listing import Listing, listed
from slimnet.errors import DataError, whole_text

RAF_CLASSES = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""Of numbers from 1."""

AFFECTNET_CLASSES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
"""Of numbers from 0."""

_LISTS = ("list_patition_label.txt", "list_partition_label.txt")
_LIST_PLACES = (".", "EmoLabel", "basic/EmoLabel")
_RAF_NAME = re.compile(r"(train|test)_\d{5}(_aligned)?\.\w+")
_RAF_ROW = re.compile(rb"((train|test)_\d{1,9})\.(jpg|jpeg|png)[ \t]+([1-7])")


def find(root: Path) -> Listing | None:
    """RAF-DB by its list, or AffectNet by its annotations; None for anything else."""
    for place in _LIST_PLACES:
        for name in _LISTS:
            if (root / place / name).is_file():
                return _raf(root, root / place / name)
    found = roles(root)
    if 0 in found and all((folder / "annotations").is_dir() and (folder / "images").is_dir() for folder in found.values()):
        return _affectnet(root, found)
    return None


def numbered(folder: Path, classes: tuple[str, ...], names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes in place of numbers, where pictures are called as in RAF-DB, or folders as in AffectNet."""
    if classes == tuple("1234567") and all(_RAF_NAME.fullmatch(name.rpartition("/")[2]) for name in names):
        return RAF_CLASSES
    if folder.name == "train_set" and classes in (tuple("01234567"), tuple("0123456")):
        return AFFECTNET_CLASSES[: len(classes)]
    return classes


def _raf(root: Path, path: Path) -> Listing:
    """Rows ``train_00001.jpg 5``; pictures ``train_00001_aligned.jpg`` somewhere below."""
    where: dict[str, str] = {}
    for name in pictures_below(root, root):
        stem = name.rpartition("/")[2].partition(".")[0]
        if "aligned" in stem or stem not in where:
            where[stem] = name
    rows = []
    with path.open("rb") as file:
        for number, line in read_lines(file):
            match = _RAF_ROW.fullmatch(line or b"")
            if match is None:
                raise DataError(f"{path}, line {number}: not a picture and a number from 1 to 7: {shown(line or b'')}.")
            stem = match[1].decode()
            picture = where.get(f"{stem}_aligned") or where.get(stem)
            if picture is None:
                raise DataError(f"{path}, line {number}: there is no {stem}_aligned.jpg below {root}.")
            rows.append((picture, int(match[4]) - 1, 0 if match[2] == b"train" else 2))
    if not rows:
        raise DataError(f"{path} is empty.")
    return listed(root, RAF_CLASSES, sorted(rows, key=lambda row: row[2]))


def _affectnet(root: Path, found: dict[int, Path]) -> Listing:
    """Pictures ``images/N.jpg`` with ``annotations/N_exp.npy``."""
    rows = []
    for part, folder in found.items():
        for name in pictures_below(folder / "images", root):
            stem = name.rpartition("/")[2].partition(".")[0]
            rows.append((name, _expression(folder / "annotations" / f"{stem}_exp.npy"), part))
    if not rows:
        raise DataError(f"{root} holds no picture in images; it holds {what_is_there(root)}.")
    classes = AFFECTNET_CLASSES[: 8 if any(row[1] == 7 for row in rows) else 7]
    return listed(root, classes, rows)


def _expression(path: Path) -> int:
    """The number in a file of numpy: text or a number, nothing that is unpickled."""
    try:
        if path.stat().st_size > 4096:
            raise ValueError("larger than 4,096 bytes")
        value = int(np.load(path, allow_pickle=False).item())
    except (OSError, ValueError, EOFError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise DataError(f"{path} cannot be read as one number: {whole_text(error)[:120]}.") from None
    if not 0 <= value < len(AFFECTNET_CLASSES):
        raise DataError(f"{path} holds {value}, not a number from 0 to 7.")
    return value
