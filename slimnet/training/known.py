"""What a library says of the pictures that its network takes: used where the settings say nothing."""

from __future__ import annotations

from dataclasses import replace

from slimnet.data import Dataset
from slimnet.models import defaults_of
from slimnet.names import SIZED_DATA
from slimnet.progress import Say
from slimnet.training.config import TrainConfig


def with_known_size(config: TrainConfig, say: Say) -> TrainConfig:
    """The settings with the size of picture that timm says of the network; as they are for other networks, where a size is set,
    and for data whose pictures have a size of their own."""
    if config.image_size is not None or config.data in SIZED_DATA:
        return config
    known = defaults_of(config.model, config.model_args)
    if known is None:
        return config
    say(f"images are resized to {known.size}×{known.size}, as timm does for {config.model} (--image-size sets another size)")
    return replace(config, image_size=known.size)


def with_known_statistics(config: TrainConfig, dataset: Dataset, say: Say) -> Dataset:
    """The data normalised by the mean and deviation that timm says of the network; as it is where the settings say how, and for
    data that has a normalisation or a number of channels of its own."""
    if config.normalise is not None or config.data in SIZED_DATA:
        return dataset
    known = defaults_of(config.model, config.model_args)
    if known is None or len(known.mean) != dataset.image_shape[0]:
        return dataset
    say(f"images are normalised as timm does for {config.model}: {known.normalisation} (--normalise sets others)")
    return replace(dataset, mean=known.mean, std=known.std)
