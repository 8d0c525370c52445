"""Batches of a data set: order, seed, augmentation."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from slimnet.data import (
    Augment,
    Batches,
    Split,
)
from slimnet.errors import ArgumentError

RAW: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255,) * 3}  # leaves pixel values as they are


def numbered(count: int = 50, channels: int = 3, side: int = 6) -> Split:
    """Images whose pixels are all different from 0; label i on image i."""
    generator = Generator().manual_seed(5)
    images = torch.randint(1, 256, (count, channels, side, side), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(count))


def epoch(batches: Batches, e: int = 0) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches.epoch(e), strict=True)
    return torch.cat(images), torch.cat(labels)


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_evaluation_gives_every_image_in_order_and_normalised() -> None:
    split = numbered()
    assert isinstance(split.images, Tensor)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    images, labels = epoch(Batches(split, 16, mean=mean, std=std))
    wanted = (split.images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.equal(labels, split.labels)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.double(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [16, 16, 16, 2]), (True, [16, 16, 16])])
def test_last_batch(drop_last: bool, sizes: list[int]) -> None:
    batches = Batches(numbered(), 16, **RAW, shuffle=True, drop_last=drop_last)
    assert len(batches) == len(sizes)
    assert [len(labels) for _, labels in batches.epoch(0)] == sizes
    assert [batches.global_size(step) for step in range(len(batches))] == sizes


def test_epoch_is_a_function_of_seed_and_number_alone() -> None:
    def made(seed: int = 0) -> Batches:
        return Batches(numbered(), 16, **RAW, augment=Augment(2), shuffle=True, seed=seed)

    batches = made()
    first, second = epoch(batches, 0), epoch(batches, 1)
    torch.manual_seed(99)
    torch.rand(7)
    assert same(epoch(batches, 0), first)
    assert same(epoch(made(), 1), second)
    different = [first[1], second[1], epoch(made(seed=1), 0)[1], epoch(made(seed=1), 1)[1]]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(different, 2))
    assert all(torch.equal(labels.sort().values, torch.arange(50)) for labels in different)


def test_batches_leave_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    epoch(Batches(numbered(), 16, **RAW, augment=Augment(2), shuffle=True))
    assert torch.equal(torch.get_rng_state(), before)


def windows(image: Tensor, padding: int, flip: bool) -> list[Tensor]:
    side = image.shape[-1]
    padded = torch.nn.functional.pad(image, (padding,) * 4)
    spots = itertools.product(range(2 * padding + 1), repeat=2)
    crops = [padded[:, y : y + side, x : x + side] for y, x in spots]
    return crops + [crop.flip(2) for crop in crops] if flip else crops


@pytest.mark.parametrize(("padding", "flip"), [(2, True), (2, False), (0, True), (1, True)])
def test_augmentation_takes_every_crop_and_flip_as_often(padding: int, flip: bool) -> None:
    """Each output is one that torchvision's RandomCrop(padding) and RandomHorizontalFlip can give."""
    image = torch.randint(1, 256, (3, 5, 5), dtype=torch.uint8, generator=Generator().manual_seed(1))
    split = Split(image.expand(2000, -1, -1, -1).contiguous(), torch.arange(2000))
    images, _ = epoch(Batches(split, 500, **RAW, augment=Augment(padding, flip), shuffle=True))
    choices = torch.stack(windows(image, padding, flip))
    hits = (images.round().byte()[:, None] == choices[None]).flatten(2).all(2)
    assert torch.equal(hits.sum(1), torch.ones(2000, dtype=torch.long))
    expected = 2000 / len(choices)
    assert (hits.sum(0) - expected).abs().max() < 5 * expected**0.5


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_see_together_what_one_sees(world_size: int, shuffle: bool) -> None:
    options: dict[str, Any] = {**RAW, "augment": Augment(2), "shuffle": shuffle}
    alone = Batches(numbered(52), 16, **options).epoch(3)
    ranks = [Batches(numbered(52), 16, **options, rank=r, world_size=world_size) for r in range(world_size)]
    for whole, *parts in zip(alone, *(batches.epoch(3) for batches in ranks), strict=True):
        images, labels = zip(*parts, strict=True)
        assert same(whole, (torch.cat(images), torch.cat(labels)))
        assert len(whole[1]) < 16 or {len(part) for part in labels} == {16 // world_size}


def test_channels_last() -> None:
    images, _ = next(Batches(numbered(), 8, **RAW, augment=Augment(1), memory_format=torch.channels_last).epoch(0))
    assert images.is_contiguous(memory_format=torch.channels_last)


BAD_BATCHES: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
    ({"batch_size": 51, "shuffle": True}, "`batch_size` 51 is larger than the 50 training images"),
    ({"batch_size": 5, "shuffle": True, "world_size": 2}, "`batch_size` 5 does not divide among 2 processes"),
    ({"batch_size": 16, "shuffle": True, "world_size": 4}, "The last batch has 2 images for 4 processes"),
    ({"rank": 2, "world_size": 2}, "`rank` must be in"),
    ({"mean": (0.5,)}, "`mean` must have 3 values, one a channel, got 1"),
    ({"std": (1.0, 0.0, 1.0)}, "`std` must be positive"),
    ({"mean": (float("nan"), 0.0, 0.0)}, "`mean` must be finite"),
]


@pytest.mark.parametrize(("options", "message"), BAD_BATCHES)
def test_bad_batches(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Batches(numbered(), **{"batch_size": 16, **RAW, **options})


def test_evaluation_batch_may_exceed_the_data() -> None:
    assert len(epoch(Batches(numbered(), 1000, **RAW))[1]) == 50


class Operators(TorchDispatchMode):
    """Counts the operators that PyTorch runs."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_batch_is_made_whole_not_image_by_image() -> None:
    """As many operators for 128 images as for 16. The time that it takes: benchmarks/data_time.py."""
    counts = []
    for size in (16, 128):
        split = Split(torch.zeros(4 * size, 3, 32, 32, dtype=torch.uint8), torch.zeros(4 * size, dtype=torch.int64))
        batches = Batches(
            split, size, **RAW, augment=Augment(crop_padding=4, flip=True, rotate=10, scale=0.1, erase=0.25), shuffle=True
        )
        with Operators() as operators:
            assert len(list(batches.epoch(0))) == 4
        counts.append(operators.count)
    assert counts[0] == counts[1] > 0
