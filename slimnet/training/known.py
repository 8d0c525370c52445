"""What is known of the pictures that a network takes, from the run of its initial weights or of timm: used where the settings
say nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from slimnet.data import Dataset, are_same, recorded_size, recorded_statistics, shown_statistics
from slimnet.models import defaults_of, weights_file
from slimnet.names import SIZED_DATA
from slimnet.progress import Say
from slimnet.training.config import TrainConfig
from slimnet.training.slim_start import SLIM, is_slim_folder


def with_known_size(config: TrainConfig, say: Say) -> TrainConfig:
    """The settings with the size of picture that the run of the initial weights had, or that timm says of the network.

    They stay as they are for other networks, where a size is set, and for data whose pictures have a size of their own.
    """
    if config.image_size is not None or config.data in SIZED_DATA:
        return config
    weights = _weights(config)
    learnt = None if weights is None else recorded_size(weights)
    if learnt is not None:
        say(f"images are resized to {learnt}×{learnt}, as {config.init} learnt from them (--image-size sets another size)")
        return replace(config, image_size=learnt)
    known = defaults_of(config.model, config.model_args)
    if known is None:
        return config
    say(f"images are resized to {known.size}×{known.size}, as timm does for {config.model} (--image-size sets another size)")
    return replace(config, image_size=known.size)


def with_known_statistics(config: TrainConfig, dataset: Dataset, say: Say) -> Dataset:
    """The data normalised by the mean and deviation that the initial weights learnt with, or that timm says of the network.

    It stays as it is where the settings say how, where its own are the same as far as another split goes, and for other channels.
    """
    if config.normalise is not None:
        return dataset
    weights = _weights(config)
    learnt = None if weights is None else recorded_statistics(weights, dataset.image_shape[0])
    if learnt is not None:
        if are_same(learnt, (dataset.mean, dataset.std)):
            return dataset
        say(f"images are normalised by {shown_statistics(learnt)}, as {config.init} learnt from them (--normalise sets others)")
        return replace(dataset, mean=learnt[0], std=learnt[1])
    known = None if config.data in SIZED_DATA else defaults_of(config.model, config.model_args)
    if known is None or len(known.mean) != dataset.image_shape[0]:
        return dataset
    say(f"images are normalised as timm does for {config.model}: {known.normalisation} (--normalise sets others)")
    return replace(dataset, mean=known.mean, std=known.std)


def _weights(config: TrainConfig) -> Path | None:
    """The file of initial weights; None where there are none, or no such file: what says so comes later."""
    if config.init is None:
        return None
    path = Path(config.init)
    path = path / SLIM if is_slim_folder(path) else weights_file(path)
    return path if path.is_file() else None
