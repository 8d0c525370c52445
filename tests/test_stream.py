"""Pictures that are decoded while training goes on: each process its own, none twice, in little memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from slimnet.data import Augment, Batches, ImageFiles, Split, read_image
from slimnet.data.decode import decoded_whole
from slimnet.data.paths import Paths
from slimnet.data.window import box_of
from slimnet.errors import ArgumentError, DataError
from slimnet.methods import Dense
from slimnet.training import train
from test_batches import RAW, epoch, same


@pytest.fixture
def files(tmp_path: Path) -> Split:
    """20 JPEGs of 40 × 30."""
    rng, paths = np.random.default_rng(0), []
    for i in range(20):
        paths.append(tmp_path / f"{i:02}.jpg")
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(paths[-1])
    return Split(ImageFiles.of(paths, channels=3, size=(16, 16)), torch.arange(20))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which pictures are decoded, in this process."""
    seen: list[int] = []
    batch = ImageFiles.batch
    monkeypatch.setattr(ImageFiles, "batch", lambda self, places: seen.extend(places) or batch(self, places))
    return seen


def test_an_epoch_that_goes_on_decodes_what_is_left(files: Split, read: list[int]) -> None:
    batches = Batches(files, 4, **RAW, shuffle=True, augment=Augment(2), workers=0)
    whole = list(batches.epoch(3))
    order = list(read)
    read.clear()
    rest = list(batches.epoch(3, start=2))
    assert read == order[8:] and len(rest) == 3
    assert all(same(one, other) for one, other in zip(whole[2:], rest, strict=True))


def test_two_processes_decode_each_its_own(files: Split, read: list[int]) -> None:
    parts = []
    for rank in (0, 1):
        list(Batches(files, 8, **RAW, shuffle=True, workers=0, rank=rank, world_size=2).epoch(1))
        parts.append(set(read))
        assert len(read) == len(parts[-1]) == 10
        read.clear()
    assert parts[0] | parts[1] == set(range(20)) and not parts[0] & parts[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_is_one_line_from_whatever_process(files: Split, tmp_path: Path, workers: int) -> None:
    path = tmp_path / "07.jpg"
    path.write_bytes(path.read_bytes()[:300])
    for augment in (None, Augment(area=0.5)):
        with pytest.raises(DataError, match=r"07\.jpg cannot be read as an image: it may be truncated") as caught:
            epoch(Batches(files, 4, **RAW, augment=augment, workers=workers))
        assert "\n" not in str(caught.value)


def test_paths_are_arrays() -> None:
    paths = Paths.of("/data", ["a/ü.png", "b.png", ""])
    assert [str(paths[i]) for i in range(3)] == ["/data/a/ü.png", "/data/b.png", "/data"]
    assert paths.subset(torch.tensor([2, 0])).names() == ["", "a/ü.png"]
    assert all(isinstance(value, np.ndarray) for value in (paths.text, paths.ends, paths.rows))


def test_windows_are_the_same_whoever_makes_them(files: Split) -> None:
    options: dict[str, Any] = {**RAW, "shuffle": True, "augment": Augment(area=0.2)}
    one, other = (epoch(Batches(files, 4, **options, workers=workers), 2) for workers in (0, 2))
    assert same(one, other) and one[0].shape == (20, 3, 16, 16)
    assert not torch.equal(one[0], epoch(Batches(files, 4, **options, workers=0), 3)[0])


def test_windows_of_what_is_held_in_memory() -> None:
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(50, -1, -1, -1).contiguous()
    options: dict[str, Any] = {"mean": (0.0,), "std": (1 / 255,), "shuffle": True}
    images, _ = epoch(Batches(Split(image, torch.arange(50)), 10, **options, augment=Augment(area=0.3, flip=False)))
    assert images.min() >= 0 and images.max() <= 63 and len(images.flatten(1).unique(dim=0)) == 50
    assert (images.diff(dim=3) >= -1e-3).all() and (images.diff(dim=2) >= -1e-3).all()


@pytest.mark.parametrize("numbers", [(1.0, 0.0, 1.0, 1.0), (0.08, 1.0, 0.5, 1.0), (0.3, 0.5, 1.0, 0.0), (1.0, 1.0, 0.0, 0.0)])
def test_windows_lie_inside(numbers: tuple[float, ...]) -> None:
    for size in ((30, 40), (1, 90), (7, 7)):
        top, left, height, width = box_of(numbers, size)
        assert 0 <= top <= size[0] - height and 0 <= left <= size[1] - width and height >= 1 and width >= 1


SAVED: list[Callable[[Path], object]] = [
    lambda p: Image.new("L", (9, 7), 9).save(p),
    lambda p: Image.new("CMYK", (9, 7), (9, 8, 7, 6)).save(p),
    lambda p: Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 29, 3), np.uint8)).save(p, progressive=True),
    lambda p: Image.new("RGBA", (9, 7)).save(p, format="PNG"),
]


@pytest.mark.parametrize("save", SAVED)
@pytest.mark.parametrize("channels", [1, 3])
def test_both_decoders_give_the_same(tmp_path: Path, save: Callable[[Path], object], channels: int) -> None:
    save(tmp_path / "x.jpg")
    found = decoded_whole((tmp_path / "x.jpg").read_bytes(), "x", channels=channels)
    assert torch.equal(found, read_image(tmp_path / "x.jpg", channels=channels))


# --- a transform of the user's own ---


def noisy(image: Tensor) -> Tensor:
    """Draws from three generators."""
    numbers = (torch.randint(9, ()), random.randrange(9), np.random.randint(9))
    return v2.functional.resize(image, [16, 16]).clamp(9, 200) + sum(int(n) for n in numbers)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_transform_is_a_function_of_seed_epoch_and_image(files: Split, workers: int) -> None:
    change = v2.Compose([v2.RandomResizedCrop(16), v2.RandomHorizontalFlip(), v2.ColorJitter(0.5), noisy])
    before = torch.get_rng_state(), random.getstate()
    one = epoch(Batches(files, 4, **RAW, shuffle=True, transform=change, workers=workers), 1)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    torch.manual_seed(9)
    parts = [Batches(files, 4, **RAW, shuffle=True, transform=change, workers=0, rank=r, world_size=2).epoch(1) for r in (0, 1)]
    other = [torch.cat(pair) for step in zip(*parts, strict=True) for pair in [[images for images, _ in step]]]
    assert torch.equal(one[0], torch.cat(other))
    assert not torch.equal(one[0], epoch(Batches(files, 4, **RAW, shuffle=True, transform=change, workers=0), 2)[0])


BAD: list[tuple[Callable[[Tensor], Any], str]] = [
    (v2.ToDtype(torch.float32, scale=True), "must give torch.uint8 of shape .3, 16, 16., it gives torch.float32"),
    (v2.Resize([8, 8]), r"it gives torch.uint8 of shape \(3, 8, 8\)"),
    (lambda image: None, "it gives NoneType"),
    (lambda image: 1 / 0, "the transform fails on an image of shape .3, 30, 40.: division by zero"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_transforms(files: Split, change: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        epoch(Batches(files, 4, **RAW, transform=change, workers=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_transform_that_writes_into_its_image_changes_no_other_epoch(workers: int) -> None:
    def darker(image: Tensor) -> Tensor:
        return image.div_(2, rounding_mode="floor")

    split = Split(torch.full((8, 3, 4, 4), 200, dtype=torch.uint8), torch.arange(8) % 2)
    batches = Batches(split, 4, **RAW, transform=darker, workers=workers)
    seen = [epoch(batches, number)[0] for number in (0, 1, 0)]
    assert all(torch.equal(images, seen[0]) for images in seen)
    assert bool((split.images == 200).all())


def test_a_run_with_a_transform_is_resumed_with_it(tmp_path: Path) -> None:
    options = {"model": "test_resume:small_net", "method": Dense(), "epochs": 1, "precision": "fp32", "device": "cpu"}
    change = v2.RandomHorizontalFlip()
    train(out=tmp_path, data="digits", transform=change, num_workers=0, train_fraction=0.2, progress=False, **options)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ArgumentError, match=r"uses a transform of its own \(RandomHorizontalFlip\(p=0.5\)\): give it"):
        train(out=tmp_path, resume=True, progress=False, trust_code=True)
    with pytest.raises(ArgumentError, match=r"`transform` was 'RandomHorizontalFlip"):
        train(out=tmp_path, resume=True, progress=False, trust_code=True, transform=v2.RandomVerticalFlip())
    assert train(out=tmp_path, resume=True, progress=False, trust_code=True, transform=change).config.transform
