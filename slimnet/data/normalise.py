"""Which mean and deviation images are brought to 0 and 1 with."""

from __future__ import annotations

from slimnet.data._source import Source, channel_statistics
from slimnet.data.dataset import Split
from slimnet.errors import ArgumentError
from slimnet.settings import NORMALISATION, mean_and_std

Values = tuple[float, ...]
IMAGENET: tuple[Values, Values] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


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
    numbers = mean_and_std(chosen)
    if numbers is None:
        raise ArgumentError(f"`normalise` must be {NORMALISATION.wanted}, got {chosen!r}.")
    return (numbers[0],) * channels, (numbers[1],) * channels
