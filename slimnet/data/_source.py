"""What a loader of a data set is asked for, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from slimnet.data.dataset import Split
from slimnet.settings import Augment

_CHUNK = 1024
_SAMPLE = 2048


@dataclass(frozen=True)
class Request:
    """The arguments of `load_data` that concern where images come from.

    ``options`` holds a value for each name in the loader's ``OPTIONS``, and no other. ``members``: name of a picture → split
    (0 train, 1 val, 2 test), where that was written down.
    """

    name: str
    data_dir: Path | None
    download: bool
    image_size: int | None
    resident_bytes: int
    options: Mapping[str, bool] = field(default_factory=dict)
    members: Mapping[str, int] | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """A data set before its validation split is held out.

    Attributes:
        classes: names of the classes.
        train: all training data.
        test: the test data.
        flip: whether a mirrored image still shows its class.
        val: the validation data, where it comes apart from the training data.
        normalise: ``"dataset"`` or ``"imagenet"``, the default of this data set.
        augment: the customary random changes; None for crop and flip.
        notes: what a user should know about this data, a line each.
        statistics: mean and std of its training images, a value a channel, in units where 255 is 1, where they are known; else
            they are computed once the validation split is held out.
        order: the classes in the order that is customary for them; None for ``classes``.
        tested_on: ``"val"`` where ``test`` is ``val``.
        is_drawn: whether a split was drawn.
        leaks: what to do about training images that also stand in validation, once that is held out, or test: ``"tell"`` or
            ``"drop"``; empty: nothing, or the loader has done it.
    """

    classes: tuple[str, ...]
    train: Split
    test: Split
    flip: bool = True
    val: Split | None = None
    normalise: str = "dataset"
    augment: Augment | None = None
    notes: tuple[str, ...] = ()
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    order: tuple[str, ...] | None = None
    tested_on: str = "test"
    is_drawn: bool = True
    leaks: Literal["", "tell", "drop"] = ""


def resized(images: Tensor, size: int | None) -> Tensor:
    """Images (N, C, H, W) uint8 at ``size`` × ``size`` (bilinear, antialiased); unchanged if it is None."""
    if size is None or tuple(images.shape[2:]) == (size, size):
        return images
    chunks = [
        F.interpolate(chunk.float(), (size, size), mode="bilinear", antialias=True).round_().clamp_(0, 255).byte()
        for chunk in torch.split(images, _CHUNK)
    ]
    return torch.cat(chunks)


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of each channel, in units where 255 is 1.

    Over at most 2,048 images, evenly spaced. A channel without any variation gets a std of 1.
    """
    rows = torch.arange(0, len(split), -(-len(split) // _SAMPLE))
    histogram = [torch.bincount(plane.flatten(), minlength=256).double() for plane in split.take(rows).unbind(1)]
    values = torch.arange(256, dtype=torch.float64) / 255
    means = [float((h * values).sum() / h.sum()) for h in histogram]
    variances = [float((h * (values - mean) ** 2).sum() / h.sum()) for h, mean in zip(histogram, means, strict=True)]
    return tuple(means), tuple(variance**0.5 or 1.0 for variance in variances)
