"""Data sets by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import Generator, Tensor

from slimnet.data._source import Request, Source
from slimnet.data.about import loader_of
from slimnet.data.classes import match_classes
from slimnet.data.dataset import Dataset, Split
from slimnet.data.duplicates import clear_of
from slimnet.data.normalise import statistics
from slimnet.data.strata import stratified_indices
from slimnet.errors import ArgumentError, DataError, unknown
from slimnet.names import DATA, LOADERS
from slimnet.settings import Augment


def data_names() -> tuple[str, ...]:
    """Names that `load_data` knows."""
    return DATA


def load_data(
    name: str,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    val_fraction: float = 0.1,
    seed: int = 0,
    image_size: int | None = None,
    normalise: str | None = None,
    resident_bytes: int = 2 * 2**30,
    data_options: Mapping[str, bool] | None = None,
    members: Mapping[str, int] | None = None,
) -> Dataset:
    """Load a data set.

    The validation split is held out of the training data, each class in its share, as a function of
    ``val_fraction`` and ``seed``; ``val.indices`` says which images. A folder that has its own keeps it, and so does
    FER2013: PublicTest validates, whatever ``val_fraction`` is.

    Args:
        name: one of `data_names()`; docs/data.md says what each is.
        data_dir: where the files are.
        download: fetch missing files (CIFAR only).
        val_fraction: share of the training data held out, in (0, 1).
        seed: of the choice of the validation images.
        image_size: side of the square images in pixels; None leaves them as they are.
        normalise: whose mean and std the images are brought to 0 and 1 with: ``"dataset"`` (of the training images that
            are not held out) or ``"imagenet"``; or two numbers for every channel where 255 is 1, ``"0,0.1"``. None means
            ``"dataset"``, except for CIFAR-10, where it means ``"imagenet"``: the ResNets in circulation were trained so.
        resident_bytes: a folder larger than this, decoded, is not held in memory but streamed from its files.
        data_options: for FER2013 and FER+: ``drop_leaked`` leaves training images out that also stand in validation or test. For
            these and for tables: ``skip_bad_rows`` leaves malformed rows out, and counts them, instead of stopping at the first.
            FER2013: ``ferplus_votes`` makes soft labels, half of each the label, half the shares of FER+'s votes. FER+:
            ``without_contempt`` leaves that expression and its faces out; its votes still count against a majority.
        members: name of each picture below the data folder → its split (0 train, 1 val, 2 test), as a run wrote it down
            (`slimnet.data.splits`): in place of what lies there, or would be drawn. Others are left out.

    Returns:
        The data set, on the CPU.

    Raises:
        ArgumentError: if a number is out of its range, ``"imagenet"`` is asked for grey images, or an option is unknown.
        DataError: if the name is unknown, files are missing or corrupt, or there is too little data to split.
    """
    if name not in LOADERS:
        raise DataError(unknown("Unknown data set", name, DATA))
    if not 0 < val_fraction < 1:
        raise ArgumentError(f"`val_fraction` must be in (0, 1), got {val_fraction}.")
    if image_size is not None and image_size < 1:
        raise ArgumentError(f"`image_size` must be at least 1, got {image_size}.")
    loader = loader_of(name)
    options = _options(name, loader, data_options or {})
    folder = Path(data_dir) if data_dir is not None else None
    source: Source = loader.load(Request(name, folder, download, image_size, resident_bytes, options, members))
    train, val = (source.train, source.val) if source.val is not None else _hold_out(name, source.train, val_fraction, seed)
    mean, std = statistics(source, train, normalise)
    notes = source.notes
    if source.leaks == "drop" or (source.leaks and isinstance(train.images, Tensor)):  # else they would be decoded for a note
        train, more = clear_of(train, val, source.test, drop=source.leaks == "drop")
        notes += more
    augment = source.augment or Augment(crop_padding=min(source.train.images.shape[2:]) // 8, flip=source.flip)
    about = (notes, source.tested_on, source.is_drawn, source.val is not None)
    dataset = Dataset(name, source.classes, train, val, source.test, mean, std, augment, *about)
    if source.order is None or source.order == source.classes:
        return dataset
    return match_classes(source.order, source.classes, who=name, whose=name).dataset(dataset)


def _options(name: str, loader: ModuleType, given: Mapping[str, bool]) -> dict[str, bool]:
    """A value for every option of the loader; the ones given first."""
    known: dict[str, bool] = getattr(loader, "OPTIONS", {}).get(name, {})
    for option, value in given.items():
        if option not in known:
            others = [other for other in DATA if option in getattr(loader_of(other), "OPTIONS", {}).get(other, {})]
            where = f" (it is for {', '.join(others)})" if others else ""
            raise ArgumentError(f"{name} has no option {option!r}{where}; known: {', '.join(known) or 'none'}.")
        if not isinstance(value, bool):
            raise ArgumentError(f"`{option}` must be true or false, got {value!r}.")
    return {**known, **given}


def _hold_out(name: str, data: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    count = round(len(data) * fraction)
    held = stratified_indices(data.labels, count, Generator().manual_seed(seed))
    kept = torch.ones(len(data), dtype=torch.bool)
    kept[held] = False
    if not count or not bool(kept.any()):
        raise DataError(f"{name}: {len(data)} training images are too few to hold out a share of {fraction}.")
    return data.subset(kept.nonzero().flatten()), data.subset(held)
