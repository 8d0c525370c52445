"""Settings that do nothing beside the others: said, not refused, since runs and recipes hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from slimnet.data import Dataset
from slimnet.data.images import ImageFiles
from slimnet.fields import describe
from slimnet.methods import Method
from slimnet.names import FETCHED_DATA
from slimnet.settings import TrainSettings, does_nothing
from slimnet.training.config import TrainConfig
from slimnet.training.slim_start import is_slim_folder


def unused_settings(config: TrainConfig, dataset: Dataset) -> Iterator[str]:
    """A line for each setting that is not what it is by default, and that the others leave nothing to do.

    Args:
        config: the settings as they were given.
        dataset: what the run trains on.

    Yields:
        The name, why it does nothing, and what to do.
    """
    standard = {row.name: row.default for row in describe(TrainSettings)}
    for names, is_unused, why in _rules(config, dataset):
        for name in names if is_unused else ():
            if getattr(config, name) != standard[name]:
                yield does_nothing(name, why)
    for name in _lone_rate(config.method) if config.target else ():
        yield does_nothing(name, "the target chooses the width of every group")
    if config.data_options.get("ferplus_votes") and not config.soft_labels:
        yield does_nothing("ferplus_votes", "the labels alone are learnt; --soft-labels learns the votes")
    if config.transform and config.augment:
        yield does_nothing("augment", "the transform is in its place")
    elif config.augment.get("area") and "crop_padding" in config.augment:
        yield does_nothing("crop_padding", "the random window (`area`) is in place of the shift")


def _rules(config: TrainConfig, dataset: Dataset) -> Sequence[tuple[tuple[str, ...], bool, str]]:
    """Names of settings, whether they have no effect, and why not."""
    streams = isinstance(dataset.train.images, ImageFiles) or config.transform is not None
    return (
        (("distill_weight", "distill_temperature"), config.teacher is None, "there is no teacher; --teacher names one"),
        (("momentum",), config.optimizer != "sgd", f"it is for sgd, not {config.optimizer}"),
        (("gamma", "milestones"), config.schedule != "step", f"it is for the schedule step, not {config.schedule}"),
        (("target_threads", "target_batch"), not config.target, "there is no target; --target-speedup X is one"),
        (("val_fraction",), dataset.has_own_val, f"{dataset.name} has a validation split of its own"),
        (("weights_key",), is_slim_folder(config.init), "a slim network has one set of weights"),
        (("num_workers",), not streams, "the images are held in memory, and none is decoded in an epoch"),
        (("download",), config.data not in FETCHED_DATA, f"slimnet fetches {' and '.join(FETCHED_DATA)} alone"),
    )


def _lone_rate(method: Method) -> Iterator[str]:
    """The rate that was given to a method that has one: of several, their proportion counts beside a target."""
    rates = [name for name in getattr(method, "rates", ()) if getattr(method, name)]
    standard = {field.name: field.default for field in dataclasses.fields(method)}  # type: ignore[arg-type]
    if len(rates) == 1 and getattr(method, rates[0]) != standard[rates[0]]:
        yield rates[0]
