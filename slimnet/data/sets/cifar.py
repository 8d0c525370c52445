"""CIFAR-10 and CIFAR-100 in the layout that torchvision reads: 60,000 colour images of 32×32 pixels.

References:
    Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from slimnet._torchvision import cifar, has_checksum
from slimnet.data._source import Request, Source, resized
from slimnet.data.about import About
from slimnet.data.dataset import Split
from slimnet.errors import DataError, whole_text

_TERMS = "none stated by its authors; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
ABOUT = {"cifar10": About(_TERMS), "cifar100": About(_TERMS)}

# Mean and std of the 50,000 training images; a test computes them again.
_STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def load(request: Request) -> Source:
    """Load CIFAR-10 or CIFAR-100.

    Raises:
        DataError: if no folder is given, files are missing or corrupt, or the download fails.
    """
    kind = cifar(request.name)
    root = _root(request, kind.base_folder)
    train, test = (_read(kind, root, request, train=part) for part in (True, False))
    normalise = "imagenet" if request.name == "cifar10" else "dataset"
    splits, statistics = (_split(train, request), _split(test, request)), _STATISTICS[request.name]
    return Source(tuple(train.classes), *splits, normalise=normalise, statistics=statistics)


def _root(request: Request, base_folder: str) -> Path:
    """The folder that holds ``base_folder``; that folder itself may be given, too."""
    if request.data_dir is None:
        raise DataError(f"{request.name} needs a data folder: the one that holds {base_folder} (--data-dir).")
    given = request.data_dir
    return given.parent if given.name == base_folder and given.is_dir() else given


def _read(kind: Any, root: Path, request: Request, *, train: bool) -> Any:
    try:
        return kind(root, train=train, download=request.download and train)
    except Exception as error:
        raise DataError(_problem(kind, root, request, error)) from None


def _problem(kind: Any, root: Path, request: Request, error: Exception) -> str:
    """Which files are missing or corrupt."""
    folder = root / kind.base_folder
    sums = {**dict(kind.train_list), **dict(kind.test_list), kind.meta["filename"]: kind.meta["md5"]}
    missing = [name for name in sums if not (folder / name).is_file()]
    if missing:
        hint = f"the download failed ({whole_text(error)})" if request.download else "fetch it with --download"
        return f"{request.name}: looked for {', '.join(missing)} in {folder}: not there; {hint}."
    corrupt = [name for name, md5 in sums.items() if not has_checksum(folder / name, md5)]
    if corrupt:
        return f"{request.name}: corrupt in {folder} (wrong checksum): {', '.join(corrupt)}: unpack it again."
    return f"{request.name}: cannot be read from {folder} ({whole_text(error)})."


def _split(part: Any, request: Request) -> Split:
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return Split(resized(images, request.image_size), torch.tensor(part.targets, dtype=torch.int64))
