"""The data of a run: loaded as its settings say, brought to what was recorded, and a first look at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from slimnet.data import Augment, Batches, Dataset, Split, load_data, match_classes, stratified_indices
from slimnet.data.splits import SPLIT_FILE, read_splits
from slimnet.errors import ArgumentError, DataError
from slimnet.files.untrusted import holds
from slimnet.progress import Say, say_from
from slimnet.training.config import TrainConfig

_say = say_from(__name__)

DATA_SETTINGS = ("data", "data_dir", "image_size", "val_fraction", "seed", "normalise", "data_options", "train_fraction")
"""The settings of a run that decide which images are in which split, and how they are fed."""


def load_config_data(config: TrainConfig, *, folder: Path | None = None) -> Dataset:
    """The data set that ``config`` names, with the augmentation that it asks for (see `load_data_of`)."""
    return load_data_of(config.as_dict(), folder=folder)


def load_data_of(
    settings: Mapping[str, Any],
    *,
    data: str | None = None,
    data_dir: Path | str | None = None,
    data_options: Mapping[str, bool] | None = None,
    folder: Path | None = None,
    soft: bool = True,
) -> Dataset:
    """The data set of a run with the same splits; or another one, or the same at another place.

    Args:
        settings: of a run, or what a bundle keeps of them (`DATA_SETTINGS`); what is missing is as by default.
        data: name of another data set; of the settings then only ``image_size`` is used.
        data_dir: where the data set lies now.
        data_options: single options of the data set's own, in place of the run's (see `load_data`).
        folder: of the run that the settings are of: where it has written its splits down, they hold.
        soft: whether soft labels are wanted: without them the votes of FER+ need not lie beside FER2013.

    Raises:
        DataError: if it is unknown, missing or malformed.
        ArgumentError: if no data set is named, or a setting is out of its range.
    """
    had = {name: settings[name] for name in (*DATA_SETTINGS, "download", "augment") if settings.get(name) is not None}
    name = data or had.get("data")
    if not isinstance(name, str):
        raise ArgumentError("the data set is not known: name it with --data.")
    if name != had.pop("data", name):
        had, folder = {key: value for key, value in had.items() if key == "image_size"}, None
    if folder is not None and holds(folder, SPLIT_FILE):
        had["members"] = read_splits(folder)
        had.pop("train_fraction", None)  # the rest is not written down
    if settings.get("transform"):
        had["resident_bytes"] = 0  # it sees files in their own size
    if data_dir is not None:
        had["data_dir"] = data_dir
    if data_options:
        had["data_options"] = {**had.get("data_options", {}), **data_options}
    if not soft:
        had = without_votes(had)
    share, changes = had.pop("train_fraction", 1.0), had.pop("augment", {})
    dataset = load_data(name, **had)
    if share < 1:
        dataset = replace(dataset, train=_part(dataset.train, share, had.get("seed", 0)))
    if not changes:
        return dataset
    return replace(dataset, augment=replace(dataset.augment or Augment(crop_padding=0, flip=False), **dict[str, Any](changes)))


def without_votes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a data set for who needs no soft labels: the votes of FER+ need not lie beside FER2013."""
    options = settings.get("data_options") or {}
    return {**settings, "data_options": {**options, "ferplus_votes": False}} if options.get("ferplus_votes") else dict(settings)


def as_recorded(dataset: Dataset, recorded: Mapping[str, Any], *, who: str, say: Say = _say) -> Dataset:
    """A data set as a run recorded it: its classes in the order of the network's outputs, its mean and deviation.

    Args:
        dataset: what was loaded now.
        recorded: ``data`` of the run's ``config.json``.
        who: what a message calls the run.
        say: told where the order of the classes has changed.

    Raises:
        DataError: if the classes are others now, or the images have other channels.
    """
    if len(recorded["mean"]) != dataset.image_shape[0]:
        channels = f"images of {len(recorded['mean'])} channels, those of {dataset.name} have {dataset.image_shape[0]}"
        raise DataError(f"{who} was trained on {channels}.")
    hint = "the data has changed since it was trained"
    match = match_classes(recorded["classes"], dataset.classes, who=who, whose=dataset.name, whole=True, hint=hint)
    if match.note:
        say(match.note)
    return replace(match.dataset(dataset), mean=tuple(recorded["mean"]), std=tuple(recorded["std"]))


def _part(split: Split, fraction: float, seed: int) -> Split:
    """A share of a split, the same of each class."""
    count = max(1, round(len(split) * fraction))
    return split.subset(stratified_indices(split.labels, count, Generator().manual_seed(seed)))


def example_images(dataset: Dataset, count: int = 2) -> Tensor:
    """The first training images as a network sees them: (count, C, H, W)."""
    batches = Batches(dataset.train.subset(torch.arange(count)), count, mean=dataset.mean, std=dataset.std)
    return next(iter(batches.epoch(0)))[0]
