"""What a configuration names: its data and its network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from slimnet.data import Augment, Batches, Dataset, Split, load_data, stratified_indices
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
    )
    if config.train_fraction < 1:
        dataset = replace(dataset, train=_part(dataset.train, config.train_fraction, config.seed))
    if not config.augment:
        return dataset
    return replace(
        dataset, augment=replace(dataset.augment or Augment(crop_padding=0, flip=False), **dict[str, Any](config.augment))
    )


def _part(split: Split, fraction: float, seed: int) -> Split:
    """A share of a split, the same of each class."""
    count = max(1, round(len(split) * fraction))
    return split.subset(stratified_indices(split.labels, count, Generator().manual_seed(seed)))


def build_config_model(config: TrainConfig, dataset: Dataset) -> nn.Module:
    """The network that ``config`` names, for the images and classes of ``dataset``, with random weights."""
    return build_model(config.model, num_classes=dataset.num_classes, in_channels=dataset.image_shape[0])


def example_images(dataset: Dataset, count: int = 2) -> Tensor:
    """The first training images as a network sees them: (count, C, H, W)."""
    batches = Batches(dataset.train.subset(torch.arange(count)), count, mean=dataset.mean, std=dataset.std)
    return next(iter(batches.epoch(0)))[0]
