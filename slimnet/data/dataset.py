"""What a data set is: three splits of images with labels, and how to feed them to a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slimnet.data.images import ImageFiles
from slimnet.data.paths import Paths
from slimnet.errors import ArgumentError, DataError
from slimnet.settings import Augment


@dataclass(frozen=True, eq=False)
class Split:
    """Images with labels.

    Attributes:
        images: (N, C, H, W) uint8; either a tensor, or files that are decoded when they are indexed.
        labels: (N,) int64, from 0.
        indices: (N,) int64, where the images stood in the set that they were taken from; None if not taken.
        soft: (N, classes) float32, shares of the classes where people disagree; None where there is only the label.
        names: of the files below the data folder; None for what is no file.

    Raises:
        DataError: if the shapes or types are not these.
    """

    images: Tensor | ImageFiles
    labels: Tensor
    indices: Tensor | None = None
    soft: Tensor | None = None
    names: Paths | None = None

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.images.shape), self.images.dtype
        if len(shape) != 4 or dtype != torch.uint8:
            raise DataError(f"Images must be uint8 of shape (N, C, H, W), got {dtype} of shape {shape}.")
        if self.labels.dtype != torch.int64 or self.labels.shape != shape[:1]:
            raise DataError(
                f"Labels must be int64 of shape ({shape[0]},), got {self.labels.dtype} of shape {tuple(self.labels.shape)}."
            )
        if self.soft is not None and (self.soft.dim() != 2 or len(self.soft) != shape[0]):
            raise DataError(f"Soft labels must have shape ({shape[0]}, classes), got {tuple(self.soft.shape)}.")

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def take(self, indices: Tensor) -> Tensor:
        """The images at ``indices`` (n,) as a uint8 tensor (n, C, H, W)."""
        return self.images[indices]

    def subset(self, indices: Tensor) -> Split:
        """The images and labels at ``indices`` (n,); the result remembers where they stood."""
        origin = indices if self.indices is None else self.indices[indices]
        images = self.images.subset(indices) if isinstance(self.images, ImageFiles) else self.images[indices]
        soft, names = self.soft, self.names
        soft, names = None if soft is None else soft[indices], None if names is None else names.subset(indices)
        return Split(images, self.labels[indices], origin, soft, names)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set ready for training.

    Attributes:
        name: the name it was loaded by.
        classes: names of the classes; label ``i`` is ``classes[i]``.
        train: what the weights are fitted to.
        val: what every choice is made on; held out of the training data.
        test: what the final figure is read from, once.
        mean: of each channel, in units where 255 is 1.
        std: likewise.
        augment: the customary random changes of training images, or None.
        notes: what a user should know about this data, a line each: rows left out, images in two splits.
        tested_on: ``"val"`` where there is no test split, and ``test`` is ``val``.
        is_drawn: whether a split was drawn, instead of lying there.
        has_own_val: whether ``val`` came with the data, so that no share of the training data was held out.

    Raises:
        DataError: if a split is empty, image shapes differ, a label is out of range, or a class has no image
            to train on.
        ArgumentError: if mean or std do not fit the channels.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment | None = None
    notes: tuple[str, ...] = ()
    tested_on: str = "test"
    is_drawn: bool = True
    has_own_val: bool = False

    def __post_init__(self) -> None:
        check_statistics(self.mean, self.std, channels=self.image_shape[0])
        for label, split in (("training", self.train), ("validation", self.val), ("test", self.test)):
            self._check_split(label, split)
        counts = torch.bincount(self.train.labels, minlength=self.num_classes)
        empty = [self.classes[i] for i in (counts == 0).nonzero().flatten().tolist()]
        if empty:
            raise DataError(f"{self.name}: class {empty[0]!r} has no training image; add some or drop the class.")

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def as_dict(self) -> dict[str, Any]:
        """What a run records about its data: JSON values only."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "image_shape": list(self.image_shape),
            "train": len(self.train),
            "val": len(self.val),
            "test": len(self.test),
            "mean": list(self.mean),
            "std": list(self.std),
            **({"tested_on": self.tested_on} if self.tested_on != "test" else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    def _check_split(self, label: str, split: Split) -> None:
        if not len(split):
            raise DataError(f"{self.name}: the {label} split is empty.")
        if tuple(split.images.shape[1:]) != self.image_shape:
            raise DataError(
                f"{self.name}: {label} images are {tuple(split.images.shape[1:])}, training images {self.image_shape}."
            )
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= self.num_classes:
            wrong = low if low < 0 else high
            raise DataError(
                f"{self.name}: {label} label {wrong} is out of range for {self.num_classes} classes "
                f"(0 to {self.num_classes - 1})."
            )


def check_statistics(mean: Sequence[float], std: Sequence[float], *, channels: int) -> None:
    """Refuse a mean and std that do not fit ``channels``.

    Raises:
        ArgumentError: if there is not one finite value a channel, or a std is not positive.
    """
    for label, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ArgumentError(f"`{label}` must have {channels} values, one a channel, got {len(values)}.")
        if not all(math.isfinite(value) for value in values):
            raise ArgumentError(f"`{label}` must be finite, got {tuple(values)}.")
    if min(std) <= 0:
        raise ArgumentError(f"`std` must be positive, got {tuple(std)}.")
