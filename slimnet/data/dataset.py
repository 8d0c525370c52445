"""What a data set is: three splits of images with labels, and how to feed them to a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from slimnet.data.images import ImageFiles
from slimnet.errors import ArgumentError, DataError


@dataclass(frozen=True)
class Augment:
    """Random changes of training images, drawn for each image on its own.

    Attributes:
        crop_padding: pixels of zeros put around an image before a crop of the old size is taken; 0 for none.
        flip: mirror half of the images, left to right.
    """

    crop_padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise ArgumentError(f"`crop_padding` must not be negative, got {self.crop_padding}.")


@dataclass(frozen=True, eq=False)
class Split:
    """Images with labels.

    Attributes:
        images: (N, C, H, W) uint8; either a tensor, or files that are decoded when they are indexed.
        labels: (N,) int64, from 0.
        indices: (N,) int64, where the images stood in the set that they were taken from; None if not taken.

    Raises:
        DataError: if the shapes or types are not these.
    """

    images: Tensor | ImageFiles
    labels: Tensor
    indices: Tensor | None = None

    def __post_init__(self) -> None:
        shape, dtype = tuple(self.images.shape), self.images.dtype
        if len(shape) != 4 or dtype != torch.uint8:
            raise DataError(f"Images must be uint8 of shape (N, C, H, W), got {dtype} of shape {shape}.")
        if self.labels.dtype != torch.int64 or self.labels.shape != shape[:1]:
            raise DataError(
                f"Labels must be int64 of shape ({shape[0]},), got {self.labels.dtype} of shape "
                f"{tuple(self.labels.shape)}."
            )

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def take(self, indices: Tensor) -> Tensor:
        """The images at ``indices`` (n,) as a uint8 tensor (n, C, H, W)."""
        return self.images[indices]

    def subset(self, indices: Tensor) -> Split:
        """The images and labels at ``indices`` (n,); the result remembers where they stood."""
        origin = indices if self.indices is None else self.indices[indices]
        images = self.images.subset(indices) if isinstance(self.images, ImageFiles) else self.images[indices]
        return Split(images, self.labels[indices], origin)


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

    def __post_init__(self) -> None:
        check_statistics(self.mean, self.std, channels=self.image_shape[0])
        for label, split in (("training", self.train), ("validation", self.val), ("test", self.test)):
            self._check_split(label, split)
        counts = torch.bincount(self.train.labels, minlength=self.num_classes)
        empty = [self.classes[i] for i in (counts == 0).nonzero().flatten().tolist()]
        if empty:
            raise DataError(
                f"{self.name}: class {empty[0]!r} has no training image; add some or drop the class."
            )

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
        }

    def _check_split(self, label: str, split: Split) -> None:
        if not len(split):
            raise DataError(f"{self.name}: the {label} split is empty.")
        if tuple(split.images.shape[1:]) != self.image_shape:
            raise DataError(
                f"{self.name}: {label} images are {tuple(split.images.shape[1:])}, "
                f"training images {self.image_shape}."
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


def stratified_indices(labels: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw ``count`` samples such that each class keeps its share.

    Shares are rounded by largest remainder; where samples are left over, a class without any comes first.

    Args:
        labels: (N,) int64.
        count: how many to draw, from 0 to N.
        generator: a generator on the CPU; the result is a function of its state.

    Returns:
        (count,) int64, sorted, each index once.

    Raises:
        ArgumentError: if ``count`` is not in [0, N].

    Example:
        >>> stratified_indices(torch.tensor([0, 0, 0, 0, 1, 1]), 3, Generator().manual_seed(0)).shape
        torch.Size([3])
    """
    labels = labels.cpu()
    if not 0 <= count <= len(labels):
        raise ArgumentError(f"`count` must be between 0 and the {len(labels)} samples, got {count}.")
    shuffled = torch.randperm(len(labels), generator=generator)
    if not count:
        return shuffled[:0]
    quotas = _quotas(torch.bincount(labels).tolist(), count)
    members = [shuffled[labels[shuffled] == label] for label in range(len(quotas))]
    return torch.cat([member[:quota] for member, quota in zip(members, quotas, strict=True)]).sort().values


def _quotas(sizes: list[int], count: int) -> list[int]:
    """Whole numbers in proportion to ``sizes`` that sum to ``count``."""
    total = sum(sizes)
    quotas = [size * count // total for size in sizes]
    order = sorted(
        (label for label, size in enumerate(sizes) if size),
        key=lambda label: (quotas[label] > 0, -(sizes[label] * count % total), label),
    )
    for label in order[: count - sum(quotas)]:
        quotas[label] += 1
    return quotas
