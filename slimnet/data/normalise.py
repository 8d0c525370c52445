"""Which mean and deviation images are brought to 0 and 1 with."""

from __future__ import annotations

import math
from typing import Any

from slimnet.data._source import Source, channel_statistics
from slimnet.data.dataset import Split
from slimnet.errors import ArgumentError

Values = tuple[float, ...]
IMAGENET: tuple[Values, Values] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
WANTED = "'dataset', 'imagenet', or 'MEAN,STD' with STD above 0"


def is_normalisation(value: Any) -> bool:
    """Whether `statistics` knows it; None is what is customary for the data."""
    return value in (None, "dataset", "imagenet") or _numbers(value) is not None


def statistics(source: Source, train: Split, normalise: str | None) -> tuple[Values, Values]:
    """Mean and std of each channel, in units where 255 is 1.

    Args:
        source: the data set.
        train: what is trained on, after the validation split was held out.
        normalise: ``"dataset"`` for the data's own, ``"imagenet"``, ``"MEAN,STD"`` for all channels, or None for the customary.

    Raises:
        ArgumentError: if it is something else, or ``"imagenet"`` is asked for images that have not three channels.
    """
    chosen, channels = normalise or source.normalise, int(train.images.shape[1])
    if chosen == "dataset":
        return source.statistics or channel_statistics(train)
    if chosen == "imagenet":
        if channels != 3:
            raise ArgumentError(f"`normalise='imagenet'` needs 3 channels, the images have {channels}.")
        return IMAGENET
    numbers = _numbers(chosen)
    if numbers is None:
        raise ArgumentError(f"`normalise` must be {WANTED}, got {chosen!r}.")
    return (numbers[0],) * channels, (numbers[1],) * channels


def _numbers(value: Any) -> tuple[float, float] | None:
    """``"0,0.1"`` → (0.0, 0.1)."""
    try:
        mean, std = map(float, value.split(","))
    except (AttributeError, TypeError, ValueError):
        return None
    return (mean, std) if math.isfinite(mean) and 0 < std < math.inf else None
