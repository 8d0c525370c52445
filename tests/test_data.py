"""Data sets by name, folders of pictures among them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from slimnet.data import (
    Augment,
    Batches,
    ImageFiles,
    data_names,
    load_data,
    read_image,
)
from slimnet.errors import ArgumentError, DataError, SlimnetError
from slimnet.files.untrusted import open_at_once
from test_batches import epoch, same


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
        r"must hold val or test beside train; it holds tests/, train/\.",
    ),
    (lambda root: (root / "train").rename(root / "trains"), {}, r"must hold train beside test; it holds test/, trains/\."),
    (
        lambda root: (root / "test" / "dog").rename(root / "test" / "bird"),
        {},
        "test has not the same classes .* bird, dog",
    ),
    (lambda root: emptied(root / "train" / "dog"), {}, "train/dog holds no image: known are .*png"),
    (
        lambda root: Image.new("RGB", (5, 5)).save(root / "test/dog/0.png"),
        {},
        "0.png is 5×5, .*cat.0.png is 12×10: give an im",
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
