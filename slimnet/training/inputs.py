"""What a configuration names: its data and its network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from slimnet.data import Augment, Batches, Dataset, load_data, with_classes
from slimnet.errors import DataError
from slimnet.models import build_model
from slimnet.training.config import TrainConfig


def load_config_data(config: TrainConfig) -> Dataset:
    """The data set that ``config`` names, with the augmentation that it asks for.

    Raises:
        DataError: if it is unknown, missing or malformed.
        ArgumentError: if an augmentation is out of its range.
    """
    dataset = load_data(
        config.data,
        data_dir=config.data_dir,
        download=config.download,
        val_fraction=config.val_fraction,
        seed=config.seed,
        image_size=config.image_size,
        normalise=config.normalise,
        data_options=config.data_options,
        train_fraction=config.train_fraction,
    )
    if not config.augment:
        return dataset
    return replace(
        dataset, augment=replace(dataset.augment or Augment(crop_padding=0, flip=False), **dict[str, Any](config.augment))
    )


def as_recorded(dataset: Dataset, recorded: Mapping[str, Any], *, who: str) -> Dataset:
    """A data set as a network was trained on it: its order of classes, its mean and deviation.

    Args:
        dataset: as it was loaded now.
        recorded: ``classes``, ``mean`` and ``std``, each only where it is known.
        who: the network, for errors.

    Raises:
        DataError: if the classes are not the same, or there are other channels.
    """
    if recorded.get("classes"):
        dataset = with_classes(dataset, recorded["classes"], who=who)
    mean, std = recorded.get("mean"), recorded.get("std")
    if mean is None or std is None:
        return dataset
    if len(mean) != len(dataset.mean):
        raise DataError(f"{who} takes images of {len(mean)} channels, those of {dataset.name} have {len(dataset.mean)}.")
    return replace(dataset, mean=tuple(mean), std=tuple(std))


def build_config_model(config: TrainConfig, dataset: Dataset) -> nn.Module:
    """The network that ``config`` names, for the images and classes of ``dataset``, with random weights."""
    return build_model(config.model, num_classes=dataset.num_classes, in_channels=dataset.image_shape[0])


def example_images(dataset: Dataset, count: int = 2) -> Tensor:
    """The first training images as a network sees them: (count, C, H, W)."""
    batches = Batches(dataset.train.subset(torch.arange(count)), count, mean=dataset.mean, std=dataset.std)
    return next(iter(batches.epoch(0)))[0]
