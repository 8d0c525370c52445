"""Batches, shuffled, augmented and normalised on the training device; a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from slimnet.data.augment import Draw, crop_and_flip, draw, erased, turned, windowed
from slimnet.data.dataset import Split, check_statistics
from slimnet.data.images import ImageFiles
from slimnet.data.stream import stream
from slimnet.data.transform import Transform, Transformed, mix
from slimnet.errors import ArgumentError
from slimnet.settings import Augment


class Batches:
    """The batches of a split, epoch after epoch.

    A split that is a tensor is put on ``device`` whole, once; files are decoded by a DataLoader. Several
    processes see together exactly what one sees: each batch is cut into ``world_size`` contiguous parts, and
    the random numbers belong to the place of an image in the epoch. The parts are equal where ``world_size``
    divides the batch, which it may not do in the last one: weigh by `global_size`, or set ``drop_last``.

    Args:
        split: the images and labels.
        batch_size: images a batch, over all processes together.
        mean: of each channel, in units where 255 is 1.
        std: likewise.
        augment: random changes, or None.
        transform: changes an image (C, H, W) uint8 into one of the split's size, in place of ``augment``. It sees files in their
            own size, and runs where they are decoded.
        shuffle: draw a new order each epoch. This is taken as the mark of training.
        seed: of order and augmentation.
        device: where batches live.
        rank: which part of each batch this process gets.
        world_size: number of processes.
        drop_last: leave out a last batch that is not full.
        memory_format: of the images, e.g. ``torch.channels_last``.
        soft: give the shares of the classes (n, classes) float32 in the place of labels.
        workers: processes that decode files, or run ``transform``; None for one a core, up to 8. Otherwise ignored for tensors.

    Raises:
        ArgumentError: if a number is out of its range, a training batch is larger than the split, or there are no shares.

    Example:
        >>> split = Split(torch.zeros(5, 1, 8, 8, dtype=torch.uint8), torch.arange(5))
        >>> [len(labels) for _, labels in Batches(split, 2, mean=(0.5,), std=(1.0,)).epoch(0)]
        [2, 2, 1]
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Augment | None = None,
        transform: Transform | None = None,
        shuffle: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        memory_format: torch.memory_format = torch.contiguous_format,
        soft: bool = False,
        workers: int | None = None,
    ) -> None:
        check_statistics(mean, std, channels=split.images.shape[1])
        self.size = len(split)
        self.batch_size, self.drop_last = batch_size, drop_last
        self.rank, self.world_size = rank, world_size
        self.augment, self.shuffle, self.seed = None if transform else augment, shuffle, seed
        self.transform = transform
        self.memory_format, self.workers = memory_format, workers
        self.device = torch.device(device)
        self._check()
        images = split.images
        self.images = images if isinstance(images, ImageFiles) or transform is not None else images.to(self.device)
        self.labels = _targets(split, soft=soft).to(self.device)
        scale = 1 / torch.tensor(std, dtype=torch.float64)
        self._scale = _column(scale / 255, self.device)
        self._shift = _column(-torch.tensor(mean, dtype=torch.float64) * scale, self.device)

    def __len__(self) -> int:
        """Steps an epoch, the same for every rank."""
        return self.size // self.batch_size if self.drop_last else -(-self.size // self.batch_size)

    def epoch(self, e: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch ``e``: a pure function of (seed, e), whatever epochs came before.

        Args:
            e: the epoch, from 0.
            start: the first batch that is made; those before it are not decoded.

        Yields:
            images (n, C, H, W) float32, normalised, and labels (n,) int64 (or shares, with ``soft``), of this rank.
        """
        generator = Generator().manual_seed(mix(self.seed, e))
        order = torch.randperm(self.size, generator=generator) if self.shuffle else torch.arange(self.size)
        drawn = draw(self.augment, self.size, generator).to(self.device) if self.augment else None
        order = order.to(self.device)
        parts = [self._part(step) for step in range(start, len(self))]
        for part, images in zip(parts, self._pixels(e, order, drawn, parts), strict=True):
            yield self._finished(images, drawn and drawn[part]), self.labels[order[part]]

    def global_size(self, step: int) -> int:
        """Images in batch ``step`` over all processes together."""
        return min(self.batch_size, self.size - step * self.batch_size)

    def _part(self, step: int) -> slice:
        """Where this rank's images of batch ``step`` stand in the epoch."""
        start, count = step * self.batch_size, self.global_size(step)
        cuts = [start + count * i // self.world_size for i in (self.rank, self.rank + 1)]
        return slice(*cuts)

    def _pixels(self, e: int, order: Tensor, drawn: Draw | None, parts: Sequence[slice]) -> Iterator[Tensor]:
        if isinstance(self.images, Tensor) and self.transform is None:
            for part in parts:
                yield self.images[order[part]] if self.shuffle else self.images[part]
            return
        make, places = self._maker(e), order.cpu()
        orders = (_order(places[part], drawn and drawn[part]) for part in parts)
        pinned = self.device.type == "cuda"
        for images in stream(make, orders, workers=self.workers, pinned=pinned):
            yield images.to(self.device, non_blocking=pinned)

    def _maker(self, e: int) -> Callable[[Any], Tensor]:
        """What makes a batch in another process."""
        if self.transform is not None:
            return partial(_transformed, Transformed(self.images, self.transform, self.seed, e))
        assert isinstance(self.images, ImageFiles)
        return partial(_decoded, self.images)

    def _finished(self, images: Tensor, drawn: Draw | None) -> Tensor:
        if drawn is not None and self.augment:
            images = images if isinstance(self.images, ImageFiles) else windowed(images, drawn)
            images = turned(crop_and_flip(images, drawn, self.augment.shift), drawn)
        normalised = images.to(torch.float32).mul_(self._scale).add_(self._shift)
        if drawn is not None:
            normalised = erased(normalised, drawn)
        return normalised.contiguous(memory_format=self.memory_format)

    def _check(self) -> None:
        if self.batch_size < 1:
            raise ArgumentError(f"`batch_size` must be at least 1, got {self.batch_size}.")
        if not 0 <= self.rank < self.world_size:
            raise ArgumentError(f"`rank` must be in [0, `world_size`), got {self.rank} of {self.world_size}.")
        if not self.shuffle:
            return
        if self.batch_size > self.size:
            raise ArgumentError(f"`batch_size` {self.batch_size} is larger than the {self.size} training images.")
        if self.batch_size % self.world_size:
            raise ArgumentError(f"`batch_size` {self.batch_size} does not divide among {self.world_size} processes.")
        last = self.global_size(len(self) - 1)
        if last < self.world_size:
            raise ArgumentError(
                f"The last batch has {last} images for {self.world_size} processes: "
                f"set `drop_last` or another `batch_size` than {self.batch_size}."
            )


def _targets(split: Split, *, soft: bool) -> Tensor:
    if not soft:
        return split.labels
    if split.soft is None:
        raise ArgumentError("`soft` asks for shares of the classes, but the split has labels alone.")
    return split.soft


def _column(values: Tensor, device: torch.device) -> Tensor:
    return values.to(device=device, dtype=torch.float32).view(1, -1, 1, 1)


_Order = tuple[list[int], list[list[float]] | None]
"""The images of a batch, and the window of each."""


def _order(places: Tensor, drawn: Draw | None) -> _Order:
    return places.tolist(), None if drawn is None or drawn.window is None else drawn.window.tolist()


def _decoded(images: ImageFiles, order: _Order) -> Tensor:
    places, windows = order
    if windows is None:
        return images.batch(places)
    return torch.stack([images.window(place, numbers) for place, numbers in zip(places, windows, strict=True)])


def _transformed(transformed: Transformed, order: _Order) -> Tensor:
    return transformed(order[0])
