"""One definition of preprocessing: what it says is what is done, in data sets, predictions and bundles alike."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from slimnet.data import Batches, Split, read_image
from slimnet.data.decode import read_header
from slimnet.errors import ArgumentError
from slimnet.pictures.picture import converted, fitted, orientation
from slimnet.preprocess import check, describe, normalised, normalised_batch, prepare

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = (6, 9)


def rule(channels: int = 3, size: tuple[int, int] = SIZE) -> dict:
    return describe(size=size, channels=channels, mean=MEAN[:channels], std=STD[:channels])


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def fed(pixels: np.ndarray, channels: int) -> np.ndarray:
    """What evaluation feeds the network with: one image (H, W, C) of a split."""
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].contiguous()
    split = Split(images, torch.zeros(1, dtype=torch.int64))
    return next(iter(Batches(split, 1, mean=MEAN[:channels], std=STD[:channels]).epoch(0)))[0][0].numpy()


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_the_right_size_are_to_the_bit_what_training_is_fed_with(channels):
    pixels = noise(*SIZE, channels)
    image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    made = prepare(image, rule(channels))
    assert (made.dtype, made.shape, made.flags.c_contiguous) == (np.float32, (channels, *SIZE), True)
    np.testing.assert_array_equal(made, fed(pixels, channels))
    mean, std = (np.array(values[:channels])[:, None, None] for values in (MEAN, STD))
    np.testing.assert_allclose(made, (pixels.transpose(2, 0, 1) / 255 - mean) / std, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_files_give_what_the_folder_reader_gives(mode, channels, tmp_path):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.fromarray(noise(23, 31)).convert(mode).save(path)
    pixels = read_image(path, channels=channels, size=SIZE).permute(1, 2, 0).numpy()
    with Image.open(path) as image:
        np.testing.assert_array_equal(prepare(image, rule(channels)), fed(pixels, channels))


def resized_as_declared(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The algorithm of docs/bundle.md, step by step: uint8 (h, w) → (H, W)."""
    (height, width), (h, w) = size, pixels.shape
    factor = max(height / h, width / w)
    cover_h, cover_w = max(height, round(h * factor)), max(width, round(w * factor))
    rows = along_rows(pixels, cover_w)
    both = along_rows(rows.T, cover_h).T
    top, left = (cover_h - height) // 2, (cover_w - width) // 2
    return both[top : top + height, left : left + width]


def along_rows(pixels: np.ndarray, target: int) -> np.ndarray:
    source = pixels.shape[1]
    if source == target:
        return pixels
    scale = source / target
    support = max(scale, 1.0)
    columns = []
    for x in range(target):
        centre = (x + 0.5) * scale
        first, last = max(0, int(centre - support + 0.5)), min(source, int(centre + support + 0.5))
        weights = [max(0.0, 1 - abs((i - centre + 0.5) / support)) for i in range(first, last)]
        whole = [int(0.5 + weight / sum(weights) * 2**22) for weight in weights]
        total = sum(int(weight) * pixels[:, i].astype(np.int64) for i, weight in zip(range(first, last), whole, strict=True))
        columns.append(np.clip((total + 2**21) >> 22, 0, 255))
    return np.stack(columns, axis=1).astype(np.uint8)


@pytest.mark.parametrize("source", [(48, 48), (23, 31), (100, 30), (400, 20), (7, 90), (4, 5), (6, 10), (13, 13), (97, 145)])
def test_the_resize_rule_as_declared_is_the_one_that_is_done(source):
    pixels = noise(*source, 1)[:, :, 0]
    made = np.asarray(fitted(Image.fromarray(pixels), SIZE))
    np.testing.assert_array_equal(made, resized_as_declared(pixels, SIZE))


def test_grey_as_declared():
    pixels = noise(16, 16).astype(np.int64)
    declared = (pixels @ np.array([19595, 38470, 7471]) + 32768) >> 16
    np.testing.assert_array_equal(np.asarray(converted(Image.fromarray(pixels.astype(np.uint8)), 1)), declared)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_turned_upright(turn, kind, tmp_path):
    path, exif = tmp_path / f"x.{kind.lower()}", Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(noise(7, 12)).save(path, kind, exif=exif)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(converted(image, 3)), upright)
    np.testing.assert_array_equal(read_image(path, channels=3).permute(1, 2, 0).numpy(), upright)
    assert read_header(path) == (3, upright.shape[:2])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_ignored():
    file = io.BytesIO()
    Image.fromarray(noise(7, 12)).save(file, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0garbage")
    with Image.open(io.BytesIO(file.getvalue())) as image:
        image.load()
        assert orientation(image) == 1
        assert converted(image, 3).size == (12, 7)


@pytest.mark.parametrize("mode", ["LAB", "La"])
def test_colours_that_pillow_cannot_bring_to_rgb_are_refused(mode):
    with pytest.raises(ArgumentError, match=rf"the picture has colours \(mode {mode}\) that cannot be brought to RGB here"):
        prepare(Image.new(mode, (9, 6)), rule())


@pytest.mark.parametrize("mode", ["HSV", "YCbCr", "PA", "RGBa", "RGBX"])
def test_every_other_mode_is_brought_to_rgb(mode):
    assert prepare(Image.new(mode, (9, 6)), rule()).shape == (3, *SIZE)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_white_are_refused_not_clipped(mode):
    with pytest.raises(ArgumentError, match="the picture has 32 bits a value"):
        prepare(Image.new(mode, (9, 6)), rule())


WRONG = {
    "channels": 2,
    "size": [0, 3],
    "mean": [0.5],
    "std": [0.1, 0.1, 0.0],
    "color": "bgr",
    "layout": "NHWC",
    "resize": "stretch",
    "range": [0, 255],
}


@pytest.mark.parametrize("key", WRONG)
def test_what_would_not_be_done_is_refused(key):
    with pytest.raises(ArgumentError, match=f"`{key}` of `preprocessing`"):
        check({**rule(), key: WRONG[key]})


def test_what_is_missing_is_named():
    with pytest.raises(ArgumentError, match="lacks size, std"):
        check({key: value for key, value in rule().items() if key not in ("size", "std")})


def test_grey_pixels_need_no_axis_for_channels():
    pixels = noise(*SIZE, 1)
    np.testing.assert_array_equal(normalised(pixels, rule(1)), normalised(pixels[:, :, 0], rule(1)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_to_the_bit_its_pictures(channels):
    pixels = [noise(*SIZE, channels, seed) for seed in range(5)]
    batch = normalised_batch(np.stack(pixels), rule(channels))
    assert (batch.dtype, batch.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(batch, np.stack([normalised(each, rule(channels)) for each in pixels]))


def test_needs_no_torch(tmp_path: Path):
    code = "import sys, slimnet.preprocess; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
