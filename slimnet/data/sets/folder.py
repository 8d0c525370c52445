"""A folder of images: ``train/<class>/*.png``, ``test/<class>/*.png`` and perhaps ``val/<class>/*.png``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from slimnet.data._source import Request, Source
from slimnet.data.classes import sorted_classes
from slimnet.data.dataset import Split
from slimnet.data.decode import read_header
from slimnet.data.images import ImageFiles
from slimnet.errors import DataError
from slimnet.pictures import SUFFIXES

_VALIDATION = ("val", "valid", "validation")


def load(request: Request) -> Source:
    """Load a folder. Classes are the names of the sub-folders of ``train``, sorted; whole numbers, by their value.

    Images become RGB, or grey if every training image is grey. Without ``image_size`` all must have one size.

    Raises:
        DataError: if a folder is missing, empty or has other classes than ``train``, or an image is broken.
    """
    root = request.data_dir
    if root is None:
        raise DataError("folder needs a data folder: the one that holds train and test (--data-dir).")
    classes = _classes(root / "train")
    validation = next((root / name for name in _VALIDATION if (root / name).is_dir()), None)
    found = {part: _files(part, classes) for part in (root / "train", root / "test", validation) if part}
    paths = [path for files, _ in found.values() for path in files]
    channels, size = _format(paths, len(found[root / "train"][0]), request.image_size)
    resident = len(paths) * channels * size[0] * size[1] <= request.resident_bytes
    splits = {part: _split(ImageFiles.of(f, channels=channels, size=size), lab, resident) for part, (f, lab) in found.items()}
    val = splits.get(validation) if validation else None
    return Source(classes, splits[root / "train"], splits[root / "test"], val=val)


def _classes(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist: the data folder must hold train and test, a folder a class in each.")
    names = sorted_classes(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise DataError(f"{folder} must hold at least two folders, one a class; it holds {len(names)}.")
    return names


def _files(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    """The image files below ``folder`` and their labels, in the order of their names."""
    other = sorted(set(_classes(folder)) ^ set(classes))
    if other:
        raise DataError(f"{folder} has not the same classes as train: {', '.join(other[:3])} is in one of them only.")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        members = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not members:
            raise DataError(f"{folder / name} holds no image: known are {', '.join(sorted(SUFFIXES))}.")
        files += members
        labels += [label] * len(members)
    return files, labels


def _format(paths: Sequence[Path], training: int, image_size: int | None) -> tuple[int, tuple[int, int]]:
    """Channels and (H, W) of all images; the first ``training`` paths decide on the channels."""
    headers = [read_header(path) for path in paths]
    channels = max(channels for channels, _ in headers[:training])
    if image_size is not None:
        return channels, (image_size, image_size)
    for path, (_, size) in zip(paths, headers, strict=True):
        if size != headers[0][1]:
            raise DataError(
                f"{path} is {size[0]}×{size[1]}, {paths[0].name} is {headers[0][1][0]}×{headers[0][1][1]}: "
                "give an image size to bring all to one (--image-size)."
            )
    return channels, headers[0][1]


def _split(files: ImageFiles, labels: list[int], resident: bool) -> Split:
    return Split(files.decoded() if resident else files, torch.tensor(labels, dtype=torch.int64))
