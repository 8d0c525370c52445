"""A picture is the same to training, to `slimnet predict` and to a bundle's infer.py: one rule, three readers."""

from __future__ import annotations

import importlib.util
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from halves import SIDE, make_bundle
from slimnet.data import read_image
from slimnet.data.decode import read_header
from slimnet.errors import DataError, FileFormatError
from slimnet.pictures.picture import fitted
from slimnet.predict import Predictor
from slimnet.predict.network import Network
from slimnet.preprocess import describe, normalised

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
RULES = {n: describe(size=(SIDE, SIDE), channels=n, mean=MEAN[:n], std=STD[:n]) for n in (1, 3)}

RNG = np.random.default_rng(0)
GREY = Image.fromarray(RNG.integers(0, 256, (13, 20), np.uint8))
RGB = Image.fromarray(RNG.integers(0, 256, (13, 20, 3), np.uint8))
OTHER = Image.fromarray(RNG.integers(0, 256, (13, 20), np.uint8))
DEEP = np.asarray(GREY).astype(np.uint16) << 8 | RNG.integers(0, 256, (13, 20), np.uint16)
DEEP_RGB = np.asarray(RGB).astype(np.uint16) << 8 | RNG.integers(0, 256, (13, 20, 3), np.uint16)
PALETTE = RGB.quantize(16)
CMYK = RGB.convert("CMYK")
YCBCR = RGB.convert("YCbCr")
SEEN = PALETTE.convert("RGB")
BITS = GREY.convert("1")
HIDDEN = RGB.convert("RGBA")
HIDDEN.putalpha(OTHER)
TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def saved(image: Image.Image, **options: Any) -> Callable[[Path], None]:
    return lambda path: image.save(path, **options)


def turned(image: Image.Image, turn: int, **options: Any) -> Callable[[Path], None]:
    exif = Image.Exif()
    exif[0x0112] = turn
    return saved(image, exif=exif, **options)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_colour(path: Path) -> None:
    """A PNG with 16 bits a channel, which Pillow does not write."""
    height, width = DEEP_RGB.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP_RGB)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def deep_pgm(path: Path) -> None:
    path.write_bytes(b"P5 20 13 65535\n" + DEEP.astype(">u2").tobytes())


def frames(image: Image.Image, **options: Any) -> Callable[[Path], None]:
    return saved(image, save_all=True, append_images=[OTHER.convert(image.mode)], **options)


def jpeg(image: Image.Image, folder: Path) -> Image.Image:
    """As a JPEG without EXIF is decoded."""
    image.save(folder / "plain.jpg")
    with Image.open(folder / "plain.jpg") as decoded:
        return decoded.convert("RGB") if image.mode == "CMYK" else decoded.copy()


Wanted = Image.Image | Callable[[Path], Image.Image]
CASES: dict[str, tuple[str, Callable[[Path], None], Wanted]] = {
    "grey": ("x.png", saved(GREY), GREY),
    "RGB": ("x.png", saved(RGB), RGB),
    "one bit": ("x.png", saved(BITS), BITS),
    "palette": ("x.png", saved(PALETTE), SEEN),
    "palette, one colour transparent": ("x.png", saved(PALETTE, transparency=3), SEEN),
    "palette with alpha": ("x.png", saved(PALETTE, transparency=bytes(range(16))), SEEN),
    "alpha": ("x.png", saved(HIDDEN), RGB),
    "grey and alpha": ("x.png", saved(Image.merge("LA", (GREY, OTHER))), GREY),
    "CMYK TIFF": ("x.tif", saved(CMYK), CMYK.convert("RGB")),
    "YCbCr TIFF": ("x.tif", saved(YCBCR), YCBCR.convert("RGB")),
    "CMYK JPEG": ("x.jpg", saved(CMYK), lambda folder: jpeg(CMYK, folder)),
    "16-bit grey PNG": ("x.png", saved(Image.fromarray(DEEP)), GREY),
    "16-bit grey TIFF": ("x.tif", saved(Image.fromarray(DEEP)), GREY),
    "16-bit grey TIFF, big-endian": ("x.tif", saved(Image.frombytes("I;16B", (20, 13), DEEP.astype(">u2").tobytes())), GREY),
    "16-bit PGM": ("x.pgm", deep_pgm, GREY),
    "16-bit RGB": ("x.png", deep_colour, RGB),
    "16-bit, turned": ("x.png", turned(Image.fromarray(DEEP), 6), GREY.transpose(TURN[6])),
    "animated GIF": ("x.gif", frames(GREY), GREY),
    "animated PNG": ("x.png", frames(RGB), RGB),
    "animated WebP": ("x.webp", frames(RGB, lossless=True), RGB),
    "pages of a TIFF": ("x.tif", frames(GREY), GREY),
    "damaged EXIF": ("x.jpg", saved(GREY, exif=b"Exif\0\0garbage"), lambda folder: jpeg(GREY, folder)),
    **{f"JPEG turned {n}": ("x.jpg", turned(GREY, n), lambda f, n=n: jpeg(GREY, f).transpose(TURN[n])) for n in TURN},
    **{f"grey TIFF turned {n}": ("x.tif", turned(GREY, n), GREY.transpose(TURN[n])) for n in TURN},
    "compressed TIFF turned": ("x.tif", turned(RGB, 6, compression="tiff_adobe_deflate"), RGB.transpose(TURN[6])),
    "CMYK TIFF turned": ("x.tif", turned(CMYK, 8), CMYK.convert("RGB").transpose(TURN[8])),
    "PNG turned": ("x.png", turned(PALETTE, 5, transparency=3), SEEN.transpose(TURN[5])),
}


class Colours(nn.Module):
    """Four logits of an RGB picture."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * SIDE * SIDE, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A bundle for grey pictures, and one for RGB."""
    folder = tmp_path_factory.mktemp("readers")
    model, x = Colours().eval(), torch.rand(2, 3, SIDE, SIDE)
    networks = {"masked": model, "slim": model, "dense": model, "example_inputs": x, "real_inputs": [x]}
    changes: dict[int, dict[str, Any]] = {1: {}, 3: networks}
    return {n: make_bundle(folder / str(n), preprocessing=RULES[n], **changes[n]).path for n in RULES}


def with_infer(bundle: Path) -> Any:
    """A bundle's infer.py as a module."""
    spec = importlib.util.spec_from_file_location("infer", bundle / "infer.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_infer(path: Path, bundle: Path) -> np.ndarray[Any, Any]:
    rule = {key: value for key, value in RULES[int(bundle.name)].items() if key in ("size", "channels", "mean", "std")}
    return with_infer(bundle).prepare(str(path), **rule)[0]


def by_predict(path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray[Any, Any]:
    seen: list[np.ndarray[Any, Any]] = []
    run = Network.run
    monkeypatch.setattr(Network, "run", lambda self, inputs: run(self, seen.append(inputs) or inputs))
    Predictor(bundle, threads=1).predict([path])
    return seen[0][0]


def by_training(path: Path, channels: int) -> np.ndarray[Any, Any]:
    pixels = read_image(path, channels=channels, size=(SIDE, SIDE))
    return normalised(pixels.permute(1, 2, 0).numpy(), RULES[channels])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Palette images with Transparency")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_three_readers_see_the_same(
    case: str, channels: int, bundles: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, save, wanted = CASES[case]
    path = tmp_path / name
    save(path)
    picture = wanted if isinstance(wanted, Image.Image) else wanted(tmp_path)
    pixels = np.asarray(fitted(picture.convert("L" if channels == 1 else "RGB"), (SIDE, SIDE)))
    right = normalised(pixels, RULES[channels])
    np.testing.assert_array_equal(by_training(path, channels), right)
    np.testing.assert_array_equal(by_predict(path, bundles[channels], monkeypatch), right)
    np.testing.assert_allclose(by_infer(path, bundles[channels]), right, atol=1e-6)
    assert read_header(path)[1] == (picture.height, picture.width)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_three_readers_refuse_what_has_no_white(kind: type, bundles: dict[int, Path], tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(np.asarray(GREY).astype(kind)).save(path)
    for reader in (read_header, lambda p: read_image(p, channels=1)):
        with pytest.raises(DataError, match=r"x.tif has 32 bits a value \(mode [IF]\), and nothing says which is white"):
            reader(path)
    with pytest.raises(FileFormatError, match=r"x.tif has 32 bits a value \(mode [IF]\), and nothing says which is white"):
        Predictor(bundles[1]).predict([path])
    with pytest.raises(ValueError, match=r"32 bits a value \(mode [IF]\)"):
        by_infer(path, bundles[1])
