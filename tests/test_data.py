from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from slimnet.data import (
    Augment,
    Batches,
    Dataset,
    ImageFiles,
    Split,
    data_names,
    load_data,
    read_image,
    stratified_indices,
)
from slimnet.errors import ArgumentError, DataError, SlimnetError
from slimnet.files.untrusted import open_at_once

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


# --- batches ---


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


# --- splits and strata ---


@pytest.mark.parametrize(
    ("sizes", "count", "wanted"),
    [
        ([40, 40, 20], 10, [4, 4, 2]),
        ([96, 2, 2], 12, [11, 1, 0]),  # a class without any comes before the larger remainder of 96
        ([5, 0, 5], 4, [2, 0, 2]),
        ([3, 3, 3], 9, [3, 3, 3]),
        ([3, 3, 3], 0, [0, 0, 0]),
    ],
)
def test_stratified_indices(sizes: list[int], count: int, wanted: list[int]) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=Generator().manual_seed(1))]
    drawn = [stratified_indices(labels, count, Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.bincount(labels[drawn[0]], minlength=len(sizes)).tolist() == wanted
    assert torch.equal(drawn[0], drawn[1])
    assert len(drawn[0].unique()) == count
    assert torch.equal(drawn[0], drawn[0].sort().values)
    assert count in (0, len(labels)) or not torch.equal(drawn[0], drawn[2])


def test_stratified_indices_refuses_a_count_out_of_range() -> None:
    with pytest.raises(ArgumentError, match="between 0 and the 3 samples, got 4"):
        stratified_indices(torch.tensor([0, 1, 1]), 4, Generator())


def test_subset_remembers_where_it_came_from() -> None:
    split = numbered()
    part = split.subset(torch.tensor([3, 10, 20])).subset(torch.tensor([2, 0]))
    assert part.labels.tolist() == [20, 3]
    assert part.indices is not None
    assert part.indices.tolist() == [20, 3]
    assert torch.equal(part.take(torch.tensor([0])), split.take(torch.tensor([20])))


BAD_SPLITS: list[tuple[Tensor, Tensor, str]] = [
    (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), "Images must be uint8 .* got torch.float32"),
    (
        torch.zeros(2, 4, 4, dtype=torch.uint8),
        torch.zeros(2, dtype=torch.int64),
        r"got torch.uint8 of shape \(2, 4, 4\)",
    ),
    (
        torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
        torch.zeros(2),
        "Labels must be int64 of shape .2,., got torch.float32",
    ),
    (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"of shape \(3,\)"),
]


@pytest.mark.parametrize(("images", "labels", "message"), BAD_SPLITS)
def test_bad_splits(images: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(images, labels)


def labelled(labels: list[int], side: int = 4) -> Split:
    return Split(torch.zeros(len(labels), 1, side, side, dtype=torch.uint8), torch.tensor(labels, dtype=torch.int64))


BAD_DATASETS: list[tuple[dict[str, Any], type[SlimnetError], str]] = [
    ({"test": labelled([0, 2])}, DataError, "test label 2 is out of range for 2 classes"),
    ({"val": labelled([-1, 0])}, DataError, "validation label -1 is out of range"),
    ({"train": labelled([0, 0])}, DataError, "class 'b' has no training image"),
    ({"val": labelled([])}, DataError, "the validation split is empty"),
    (
        {"test": labelled([0, 1], side=5)},
        DataError,
        r"test images are \(1, 5, 5\), training images \(1, 4, 4\)",
    ),
    ({"mean": (0.5, 0.5)}, ArgumentError, "`mean` must have 1 values"),
]


@pytest.mark.parametrize(("change", "kind", "message"), BAD_DATASETS)
def test_bad_datasets(change: dict[str, Any], kind: type[SlimnetError], message: str) -> None:
    both = labelled([0, 1])
    good = Dataset("toy", ("a", "b"), both, both, both, (0.5,), (0.5,))
    with pytest.raises(kind, match=message):
        replace(good, **change)


# --- data sets by name ---


def test_digits() -> None:
    digits = load_data("digits")
    assert [len(split) for split in (digits.train, digits.val, digits.test)] == [1294, 144, 359]
    assert (digits.num_classes, digits.image_shape) == (10, (1, 8, 8))
    assert digits.augment == Augment(crop_padding=1, flip=False)
    assert isinstance(digits.train.images, Tensor)
    assert (int(digits.train.images.min()), int(digits.train.images.max())) == (0, 255)
    for split in (digits.val, digits.test):
        counts = torch.bincount(split.labels)
        assert int(counts.max() - counts.min()) <= 2
    images, _ = epoch(Batches(digits.train, 128, mean=digits.mean, std=digits.std))
    assert abs(float(images.mean())) < 0.01
    assert abs(float(images.std()) - 1) < 0.01


def test_splits_do_not_overlap_and_only_the_validation_split_follows_the_seed() -> None:
    one, same_seed, other = (
        load_data("digits", seed=0),
        load_data("digits", seed=0),
        load_data("digits", seed=1),
    )
    places = [split.indices for split in (one.train, one.val, one.test)]
    assert all(place is not None for place in places)
    assert torch.equal(torch.cat([p for p in places if p is not None]).sort().values, torch.arange(1797))
    assert torch.equal(one.val.indices, same_seed.val.indices)  # type: ignore[arg-type]
    assert not torch.equal(one.val.indices, other.val.indices)  # type: ignore[arg-type]
    assert torch.equal(one.test.indices, other.test.indices)  # type: ignore[arg-type]


def test_digits_at_another_size() -> None:
    digits = load_data("digits", image_size=32)
    assert digits.image_shape == (1, 32, 32)
    assert digits.augment == Augment(crop_padding=4, flip=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """train, test: 2 classes of 6 and 2 colour images, 10 × 12 pixels; each image has one colour."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (10, 12, 3))
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def test_folder(pictures: Path) -> None:
    found = load_data("folder", data_dir=pictures, val_fraction=0.34)
    assert found.classes == ("cat", "dog")
    assert found.image_shape == (3, 10, 12)
    assert [len(split) for split in (found.train, found.val, found.test)] == [8, 4, 4]
    assert torch.bincount(found.val.labels).tolist() == [2, 2]
    first = np.asarray(Image.open(pictures / "test" / "cat" / "0.png"))
    assert torch.equal(found.test.take(torch.tensor([0]))[0].permute(1, 2, 0), torch.tensor(first))


def test_folder_with_a_validation_split_keeps_it(pictures: Path) -> None:
    (pictures / "test").rename(pictures / "valid")
    for name in ("cat", "dog"):
        (pictures / "test" / name).mkdir(parents=True)
        Image.new("RGB", (12, 10)).save(pictures / "test" / name / "a.JPG")
    found = load_data("folder", data_dir=pictures)
    assert [len(split) for split in (found.train, found.val, found.test)] == [12, 4, 2]


def test_grey_folder_has_one_channel(pictures: Path) -> None:
    for path in pictures.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert load_data("folder", data_dir=pictures, val_fraction=0.34).image_shape == (1, 10, 12)


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_folder_gives_the_same_batches(pictures: Path, workers: int) -> None:
    resident = load_data("folder", data_dir=pictures, val_fraction=0.34, image_size=8)
    streamed = load_data("folder", data_dir=pictures, val_fraction=0.34, image_size=8, resident_bytes=100)
    assert isinstance(resident.train.images, Tensor)
    assert isinstance(streamed.train.images, ImageFiles)
    assert resident.as_dict() == streamed.as_dict()
    before = torch.get_rng_state()
    one, other = (
        epoch(Batches(d.train, 3, mean=d.mean, std=d.std, augment=d.augment, shuffle=True, workers=workers), 2)
        for d in (resident, streamed)
    )
    assert same(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_read_image_covers_then_crops(tmp_path: Path) -> None:
    pixels = np.zeros((4, 12, 3), dtype=np.uint8)
    pixels[:, 4:8, 0] = 255  # the middle third is red
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png", channels=3).shape == (3, 4, 12)
    image = read_image(tmp_path / "wide.png", channels=3, size=(4, 4))
    assert (image[0] == 255).all()
    assert not image[1:].any()
    assert read_image(tmp_path / "wide.png", channels=1, size=(8, 8)).shape == (1, 8, 8)


MODES = ["1", "L", "LA", "P", "RGBA", "CMYK"]


@pytest.mark.parametrize("mode", MODES)
def test_every_8_bit_mode_is_read(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    options = {"transparency": bytes([0, 255])} if mode == "P" else {}
    Image.new(mode, (5, 4), 1 if mode in "1LP" else None).save(path, **options)
    assert read_image(path, channels=3).shape == (3, 4, 5)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:48])


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


BAD_FOLDERS: list[tuple[Callable[[Path], object], dict[str, Any], str]] = [
    (
        lambda root: (root / "test").rename(root / "tests"),
        {},
        r"test does not exist: .* must hold train and test",
    ),
    (lambda root: (root / "train").rename(root / "training"), {}, "train does not exist"),
    (
        lambda root: (root / "test" / "dog").rename(root / "test" / "bird"),
        {},
        "test has not the same classes .* bird, dog",
    ),
    (lambda root: emptied(root / "train" / "dog"), {}, "train/dog holds no image: known are .*png"),
    (
        lambda root: Image.new("RGB", (5, 5)).save(root / "test/dog/0.png"),
        {},
        "0.png is 5×5, 0.png is 10×12: give an im",
    ),
    (
        lambda root: (root / "test/dog/0.png").write_text("hello"),
        {},
        "test/dog/0.png cannot be read as an image",
    ),
    (
        lambda root: cut(root / "test/dog/0.png"),
        {},
        "test/dog/0.png cannot be read as an image: it may be truncated",
    ),
    (
        lambda root: Image.new("F", (12, 10)).save(root / "test/dog/0.png", format="TIFF"),
        {},
        "0.png has 32 bits a value",
    ),
    (lambda root: None, {"val_fraction": 0.01}, "12 training images are too few to hold out a share of 0.01"),
    (lambda root: None, {"val_fraction": 0.95}, "class 'cat' has no training image"),
]


@pytest.mark.parametrize(("damage", "options", "message"), BAD_FOLDERS)
def test_bad_folders(pictures: Path, damage: Callable[[Path], object], options: dict[str, Any], message: str) -> None:
    damage(pictures)
    with pytest.raises(DataError, match=message) as caught:
        load_data("folder", **{"data_dir": pictures, "val_fraction": 0.34, **options})
    assert "\n" not in str(caught.value)


BAD_REQUESTS: list[tuple[str, dict[str, Any], type[SlimnetError], str]] = [
    (
        "cifar",
        {},
        DataError,
        "Unknown data set 'cifar'. Did you mean cifar10. Known: digits, cifar10, cifar100, folder",
    ),
    ("cifar10", {}, DataError, "cifar10 needs a data folder: the one that holds cifar-10-batches-py"),
    (
        "cifar10",
        {"data_dir": "/nowhere"},
        DataError,
        "looked for data_batch_1, .*test_batch, .* in /nowhere/cifar-10-b",
    ),
    (
        "cifar100",
        {"data_dir": "/nowhere"},
        DataError,
        "looked for train, test, meta in /nowhere/cifar-100-python",
    ),
    ("folder", {}, DataError, "folder needs a data folder"),
    ("digits", {"val_fraction": 0.0}, ArgumentError, r"`val_fraction` must be in \(0, 1\), got 0.0"),
    ("digits", {"val_fraction": 1.0}, ArgumentError, r"`val_fraction` must be in \(0, 1\), got 1.0"),
    ("digits", {"data_dir": "photos"}, ArgumentError, "digits lies in no folder, got photos: name the data set"),
    ("digits", {"image_size": 0}, ArgumentError, "`image_size` must be at least 1, got 0"),
    ("digits", {"normalise": "imagenet"}, ArgumentError, "needs 3 channels, the images have 1"),
    ("digits", {"normalise": "no"}, ArgumentError, "must be 'dataset', 'imagenet', or 'MEAN,STD' with STD above 0, got 'no'"),
]


@pytest.mark.parametrize(("name", "options", "kind", "message"), BAD_REQUESTS)
def test_bad_requests(name: str, options: dict[str, Any], kind: type[SlimnetError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        load_data(name, **options)
    assert "\n" not in str(caught.value)


def test_corrupt_cifar_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"corrupt in .*wrong checksum.: data_batch_1"):
        load_data("cifar10", data_dir=tmp_path)


def test_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object) -> None:
        raise OSError("no\nroute")

    monkeypatch.setattr("torchvision.datasets.CIFAR10.download", fails)
    with pytest.raises(DataError, match=r"the download failed .no route"):
        load_data("cifar10", data_dir=tmp_path, download=True)


def test_names() -> None:
    assert data_names()[0] == "digits"


def test_real_cifar10(data_dir: Path) -> None:
    cifar = load_data("cifar10", data_dir=data_dir / "cifar-10-batches-py", normalise="dataset")
    assert [len(split) for split in (cifar.train, cifar.val, cifar.test)] == [45000, 5000, 10000]
    assert torch.bincount(cifar.val.labels).tolist() == [500] * 10
    assert (cifar.image_shape, cifar.classes[3], cifar.augment) == ((3, 32, 32), "cat", Augment())
    assert isinstance(cifar.train.images, Tensor)
    for channel in range(3):
        values = cifar.train.images[::5, channel].double() / 255
        assert float(values.mean()) == pytest.approx(cifar.mean[channel], abs=2e-3)
        assert float(values.std()) == pytest.approx(cifar.std[channel], abs=2e-3)


def test_a_pipe_among_images_is_an_error_not_a_wait(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "x.png")
    os.mkfifo(tmp_path / "b" / "y.png")
    with pytest.raises(DataError, match=r"y\.png"):
        read_image(tmp_path / "b" / "y.png", channels=3)


def test_a_pipe_that_is_written_to_is_read(tmp_path: Path) -> None:
    pipe, heard = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    with open_at_once(pipe) as file:
        os.write(end, b"later")
        heard.append(file.read(5))
        os.close(end)
        heard.append(file.read())
    assert heard == [b"later", b""]
