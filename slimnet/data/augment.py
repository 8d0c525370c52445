"""Random changes of a whole batch on its device, drawn for each image on its own."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, device

from slimnet.data.window import Numbers, sides
from slimnet.settings import Augment

ERASED = (0.02, 0.2)  # parts of the area
_ASPECT = 3.0  # of an erased rectangle, at most, either way


@dataclass(frozen=True, eq=False)
class Draw:
    """The random numbers of N images; None for changes that are not asked for.

    Attributes:
        top: (N,) int64, where the crop begins in the padded image.
        left: (N,) int64, likewise.
        flip: (N,) bool.
        angle: (N,) float32, of the rotation, in radians.
        zoom: (N,) float32, the factor of the enlargement.
        box: (N, 4) float32, top, bottom, left and right of what is erased, as parts of the image; all 0 for nothing.
        window: (N, 4) float32, the numbers of a window (see `slimnet.data.window`).
    """

    top: Tensor
    left: Tensor
    flip: Tensor
    angle: Tensor | None = None
    zoom: Tensor | None = None
    box: Tensor | None = None
    window: Tensor | None = None

    def __getitem__(self, rows: slice) -> Draw:
        return Draw(*(None if values is None else values[rows] for values in self._all()))  # type: ignore[arg-type]

    def to(self, target: device) -> Draw:
        """The same numbers on another device."""
        return Draw(*(None if values is None else values.to(target) for values in self._all()))  # type: ignore[arg-type]

    def _all(self) -> list[Tensor | None]:
        return [getattr(self, item.name) for item in fields(self)]


def draw(augment: Augment, count: int, generator: Generator) -> Draw:
    """Draw for ``count`` images from ``generator`` (on the CPU). What is off draws nothing, and changes no other number."""
    offsets = torch.randint(2 * augment.shift + 1, (2, count), generator=generator)
    flip = torch.rand(count, generator=generator) < 0.5
    angle = zoom = box = window = None
    if augment.rotate or augment.scale:
        spread = torch.rand(2, count, generator=generator) * 2 - 1
        angle, zoom = torch.deg2rad(spread[0] * augment.rotate), 1 + spread[1] * augment.scale
    if augment.erase:
        box = _boxes(torch.rand(5, count, generator=generator), augment.erase)
    if augment.area:
        window = torch.rand(count, 4, generator=generator)
        window[:, 0] = augment.area + window[:, 0] * (1 - augment.area)
    return Draw(offsets[0], offsets[1], flip & augment.flip, angle, zoom, box, window)


def _boxes(numbers: Tensor, share: float) -> Tensor:
    """(N, 4) rectangles inside the image, from (5, N) numbers in [0, 1); empty but for ``share`` of them."""
    area = ERASED[0] + numbers[1] * (ERASED[1] - ERASED[0])
    aspect = _ASPECT ** (numbers[2] * 2 - 1)
    height, width = (area * aspect).sqrt(), (area / aspect).sqrt()  # at most √0.6 of the image
    top, left = numbers[3] * (1 - height), numbers[4] * (1 - width)
    boxes = torch.stack([top, top + height, left, left + width], dim=1)
    return boxes * (numbers[0] < share)[:, None]


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


def turned(images: Tensor, drawn: Draw) -> Tensor:
    """Rotate and enlarge each image about its centre, bilinear, zeros from outside; unchanged if not drawn for.

    Args:
        images: (N, C, H, W), any type.
        drawn: the numbers of these N images, on the same device.

    Returns:
        (N, C, H, W) float32.
    """
    if drawn.angle is None or drawn.zoom is None:
        return images
    cos, sin = torch.cos(drawn.angle) / drawn.zoom, torch.sin(drawn.angle) / drawn.zoom
    ratio, zero = images.shape[2] / images.shape[3], torch.zeros_like(cos)
    theta = torch.stack([cos, -sin * ratio, zero, sin / ratio, cos, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def windowed(images: Tensor, drawn: Draw) -> Tensor:
    """The drawn windows at the size of the images, bilinear; unchanged if not drawn for.

    Args:
        images: (N, C, H, W), any type.
        drawn: the numbers of these N images, on the same device.

    Returns:
        (N, C, H, W) float32.
    """
    if drawn.window is None:
        return images
    rows = [_seen(numbers) for numbers in drawn.window.tolist()]
    theta = torch.tensor(rows, device=images.device).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _seen(numbers: Numbers) -> list[float]:
    """What maps the corners of an image, −1 to 1, to those of its window."""
    high, wide = (min(1.0, part) for part in sides(numbers[0], numbers[1]))
    down, right = ((1 - part) * (2 * place - 1) for part, place in ((high, numbers[2]), (wide, numbers[3])))
    return [wide, 0.0, right, 0.0, high, down]


def erased(images: Tensor, drawn: Draw, value: float = 0.0) -> Tensor:
    """Set the drawn rectangles to ``value``, in place; unchanged if not drawn for.

    Args:
        images: (N, C, H, W).
        drawn: the numbers of these N images, on the same device.
        value: what takes the place of the pixels.
    """
    if drawn.box is None:
        return images
    inside = []
    for first, side in ((0, images.shape[2]), (2, images.shape[3])):
        centre = (torch.arange(side, device=images.device) + 0.5) / side
        inside.append((centre >= drawn.box[:, first, None]) & (centre < drawn.box[:, first + 1, None]))
    return images.masked_fill_((inside[0][:, :, None] & inside[1][:, None, :])[:, None], value)
