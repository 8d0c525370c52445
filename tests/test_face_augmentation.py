"""Augmentation for faces: shifts, rotation, scale, erasing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from slimnet.data import (
    Augment,
    Batches,
    Split,
)
from slimnet.data.augment import crop_and_flip, draw
from slimnet.errors import ArgumentError

RAW: dict[str, Any] = {"mean": (0.0,), "std": (1 / 255,)}
FACES = Augment(crop_padding=4, rotate=10.0, scale=0.1, erase=0.5)


def blob(count: int = 256) -> Split:
    """A bright square, off the centre, on grey."""
    images = torch.full((count, 1, 48, 48), 100, dtype=torch.uint8)
    images[:, :, 10:16, 30:36] = 200
    return Split(images, torch.arange(count))


def epoch(augment: Augment, e: int = 0, split: Split | None = None, **options: Any) -> Tensor:
    batches = Batches(split or blob(), 64, **RAW, augment=augment, shuffle=True, **options)
    return torch.cat([images for images, _ in batches.epoch(e)])


def test_options_that_are_off_change_no_number() -> None:
    one, other = (draw(augment, 50, Generator().manual_seed(3)) for augment in (Augment(4), FACES))
    assert torch.equal(one.top, other.top)
    assert torch.equal(one.flip, other.flip)
    assert one.angle is one.zoom is one.box is None
    images = blob(50).take(torch.arange(50))
    assert torch.equal(crop_and_flip(images, one, 4), crop_and_flip(images, other, 4))


def test_face_augmentation_is_a_function_of_seed_and_epoch() -> None:
    first = epoch(FACES)
    assert torch.equal(first, epoch(FACES))
    assert not torch.equal(first, epoch(FACES, 1))
    assert first.isfinite().all()
    ranks = [Batches(blob(), 64, **RAW, augment=FACES, shuffle=True, rank=r, world_size=2).epoch(0) for r in range(2)]
    together = torch.cat([images for pair in zip(*ranks, strict=True) for images, _ in pair])
    torch.testing.assert_close(together, first)


@pytest.mark.parametrize("side", [(48, 48), (48, 24)])
def test_rotation_and_scale_are_those_asked_for(side: tuple[int, int]) -> None:
    """The marked point turns about the centre by the drawn angle, at the drawn distance, on oblong images too."""
    height, width = side
    images = torch.zeros(64, 1, height, width, dtype=torch.uint8)
    y, x = height // 2 - 9, width // 2 + 3
    images[:, :, y - 1 : y + 2, x - 1 : x + 2] = 240
    augment = Augment(0, flip=False, rotate=30.0, scale=0.2)
    out = epoch(augment, split=Split(images, torch.arange(64)))
    mass = out.sum((1, 2, 3))
    rows, columns = torch.arange(height) + 0.5 - height / 2, torch.arange(width) + 0.5 - width / 2
    centre_y = (out[:, 0].sum(2) * rows).sum(1) / mass
    centre_x = (out[:, 0].sum(1) * columns).sum(1) / mass
    start = torch.tensor([y + 0.5 - height / 2, x + 0.5 - width / 2])
    radius = torch.hypot(centre_y, centre_x) / start.norm()
    angle = torch.rad2deg(torch.atan2(centre_y, centre_x) - torch.atan2(start[0], start[1]))
    assert 0.79 < radius.min() < 0.87
    assert 1.13 < radius.max() < 1.21
    assert 20 < angle.abs().max() < 31
    assert angle.min() < -10
    assert angle.max() > 10


def test_erasing_sets_rectangles_to_the_mean() -> None:
    split = Split(torch.full((1000, 1, 48, 48), 200, dtype=torch.uint8), torch.arange(1000))
    batches = Batches(split, 500, mean=(0.5,), std=(0.25,), augment=Augment(0, erase=0.5), shuffle=True)
    images = torch.cat([images for images, _ in batches.epoch(0)])
    gone = images == 0
    share = gone.flatten(1).float().mean(1)
    assert 0.45 < float((share > 0).float().mean()) < 0.55
    assert float(share.max()) < 0.23
    assert float(share[share > 0].min()) > 0.01
    rectangles = gone.any(2, keepdim=True) & gone.any(3, keepdim=True)
    assert torch.equal(gone, rectangles)


@pytest.mark.parametrize(("field", "value"), [("rotate", -1.0), ("rotate", 181.0), ("scale", 1.0), ("erase", 1.5)])
def test_bad_augmentation(field: str, value: float) -> None:
    with pytest.raises(ArgumentError, match=f"`{field}` must be from 0 to"):
        Augment(**{field: value})  # type: ignore[arg-type]
