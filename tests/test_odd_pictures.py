"""Odd and broken pictures: what is read all the same, and the one line that the others get."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import predict
from halves import TOP, bright
from slimnet.export import Bundle

KEYS = ["image", "width", "height", "predictions", "notes", "error"]


# --- odd pictures that are read -------------------------------------------------------------------------------------------


COLOUR = TOP.convert("RGB")
BROKEN_EXIF = b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40


def turned(path: Path, size: tuple[int, int] = (40, 40)) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter: what lies at the left comes to the top
    bright("left", size).save(path, exif=exif)


def deep(path: Path) -> None:
    Image.fromarray(np.asarray(TOP).astype(np.uint16) * 257).save(path)


def deep_colour(path: Path) -> None:
    pixels = (np.asarray(COLOUR).astype(np.uint16) * 257).astype(">u2")
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def with_alpha(value: int) -> Image.Image:
    picture = COLOUR.convert("RGBA")
    picture.putalpha(value)
    return picture


def frames(path: Path) -> None:
    TOP.save(path, save_all=True, append_images=[bright("left"), bright("right")])


Save = Callable[[Path], object]
FIRST, SHALLOW, OPAQUE = "the first of several frames", "16 bits a value brought to 8", "transparency dropped"

ODD: dict[str, tuple[str, Save, tuple[str, ...]]] = {
    "grey": ("x.png", TOP.save, ()),
    "RGB": ("x.jpg", COLOUR.save, ()),
    "wrong ending": ("x.txt", lambda p: TOP.save(p, format="PNG"), ()),
    "no ending": ("x", lambda p: TOP.save(p, format="PNG"), ()),
    "one bit": ("x.png", lambda p: TOP.convert("1").save(p), ()),
    "palette": ("x.png", lambda p: COLOUR.quantize(4).save(p), ()),
    "palette with transparency": ("x.png", lambda p: COLOUR.quantize(4).save(p, transparency=0), (OPAQUE,)),
    "16-bit PNG": ("x.png", deep, (SHALLOW,)),
    "16-bit TIFF": ("x.tif", deep, (SHALLOW,)),
    "16-bit colour": ("x.png", deep_colour, (SHALLOW,)),
    "CMYK JPEG": ("x.jpg", lambda p: COLOUR.convert("CMYK").save(p), ("CMYK to RGB without a colour profile",)),
    "alpha": ("x.png", lambda p: with_alpha(100).save(p), (OPAQUE,)),
    "alpha, opaque": ("x.png", lambda p: with_alpha(255).save(p), ()),
    "grey and alpha": ("x.png", lambda p: with_alpha(0).convert("LA").save(p), (OPAQUE,)),
    "animated GIF": ("x.gif", frames, (FIRST,)),
    "animated PNG": ("x.png", frames, (FIRST,)),
    "animated WebP": ("x.webp", frames, (FIRST,)),
    "pages of a TIFF": ("x.tif", frames, (FIRST,)),
    "turned JPEG": ("x.jpg", turned, ()),
    "turned PNG": ("x.png", turned, ()),
    "turned TIFF": ("x.tif", turned, ()),
    "broken EXIF": ("x.jpg", lambda p: COLOUR.save(p, exif=BROKEN_EXIF), ()),
    "one pixel high": ("x.png", lambda p: bright("left", (4, 1)).save(p), ()),
    "30,000 pixels wide": ("x.png", lambda p: bright("top", (30_000, 40)).save(p), ()),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_pictures_are_read(case: str, bundle: Bundle, here: Path) -> None:
    name, save, notes = ODD[case]
    save(here / name)
    done = predict(bundle.path, name, "--json")
    assert (done.status, done.err) == (0, "")
    (line,) = done.lines
    assert list(line) == KEYS
    assert (line["image"], line["notes"], line["error"]) == (name, list(notes), None)
    (prediction,) = line["predictions"]
    assert prediction["label"] == ("left" if case == "one pixel high" else "top")


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif"])
def test_width_and_height_are_those_of_the_upright_picture(name: str, bundle: Bundle, here: Path) -> None:
    turned(here / name, (60, 40))
    (line,) = predict(bundle.path, name, "--json").lines
    assert (line["width"], line["height"]) == (40, 60)


# --- broken pictures ------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> Save:
    """A grey PNG that claims a size, whatever it holds."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(1 << 19)))
    content = b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + rows + chunk(b"IEND", b"")
    return lambda path: path.write_bytes(content)


def cut(save: Save) -> Save:
    def both(path: Path) -> None:
        save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return both


def numbers(path: Path, kind: type) -> None:
    Image.fromarray(np.asarray(TOP).astype(kind)).save(path)


def detailed(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)


BROKEN: dict[str, tuple[str, Save, str]] = {
    "text": ("x.png", lambda p: p.write_text("hello\n"), "x.png is no picture that can be read: known are PNG, JPEG, "),
    "empty": ("x.png", Path.touch, "x.png is empty."),
    "cut PNG": ("x.png", cut(detailed), "x.png is damaged or cut short ("),
    "cut JPEG": ("x.jpg", cut(detailed), "x.jpg is damaged or cut short ("),
    "cut GIF": ("x.gif", cut(detailed), "x.gif is damaged or cut short ("),
    "cut WebP": ("x.webp", cut(detailed), "x.webp is "),
    "30,000 × 30,000": ("x.png", png(30_000, 30_000), "x.png has 900,000,000 pixels: at most 89,478,485 are decoded"),
    "12,000 × 9,000": ("x.png", png(12_000, 9_000), "x.png has 108,000,000 pixels: at most 89,478,485 are decoded"),
    "400,000 × 1": ("x.png", png(400_000, 1), "x.png is 400,000×1 pixels: too narrow to be brought to 16×16"),
    "compressed text": (
        "x.png",
        png(4, 4, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 24)))),
        "x.png is damaged or cut short (",
    ),
    "32 bits": ("x.tif", lambda p: numbers(p, np.int32), "x.tif has 32 bits a value (mode I), and nothing says which is white"),
    "floats": ("x.tif", lambda p: numbers(p, np.float32), "x.tif has 32 bits a value (mode F)"),
    "PostScript": ("x.eps", lambda p: p.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "x.eps is no picture"),
    "link to nothing": ("x.png", lambda p: p.symlink_to("gone.png"), "x.png is a link to gone.png, which does not exist."),
    "missing": ("x.png", lambda p: None, "x.png does not exist."),
    "folder without images": ("x", Path.mkdir, "x holds no image: known are .avif, .bmp, "),
    "LAB": (
        "x.tif",
        lambda p: Image.new("LAB", (8, 8)).save(p),
        "x.tif has colours (mode LAB) that cannot be brought to RGB here",
    ),
    "pipe": ("x.png", os.mkfifo, "x.png is empty."),
    "device": ("/dev/null", lambda p: None, "/dev/null is empty."),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_pictures_get_one_line_and_do_not_stop_the_rest(case: str, bundle: Bundle, here: Path) -> None:
    name, make, message = BROKEN[case]
    make(here / name)
    TOP.save("good.png")
    alone = predict(bundle.path, name)
    assert (alone.status, alone.out, alone.err.count("\n")) == (1, "", 1)
    assert alone.err.startswith(f"slimnet: error: {message}")
    both = predict(bundle.path, name, "good.png", "--json")
    assert both.status == 1
    assert [line["image"] for line in both.lines] == [name, "good.png"]
    assert list(both.lines[0]) == KEYS
    assert (both.lines[0]["predictions"], both.lines[0]["width"]) == ([], None)
    assert both.lines[0]["error"].startswith(message)
    assert both.lines[1]["predictions"][0]["label"] == "top"
    first, last = both.err.splitlines()
    assert first.startswith(f"slimnet: {message}")
    assert last == f"slimnet: error: 1 of 2 images could not be classified: {name}."


def test_one_bad_file_among_a_thousand(bundle: Bundle, here: Path) -> None:
    data = io.BytesIO()
    TOP.save(data, format="PNG")
    for number in range(1000):
        (here / f"{number:03}.png").write_bytes(b"no" if number == 700 else data.getvalue())
    done = predict(bundle.path, here, "--json")
    assert done.status == 1
    assert [line["image"] for line in done.lines] == [str(here / f"{number:03}.png") for number in range(1000)]
    assert [line["image"] for line in done.lines if line["error"]] == [str(here / "700.png")]
    assert sum(line["predictions"][0]["label"] == "top" for line in done.lines if not line["error"]) == 999
    assert done.err.splitlines()[-1] == f"slimnet: error: 1 of 1,000 images could not be classified: {here / '700.png'}."


def test_a_file_that_may_not_be_read(bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TOP.save("x.png")

    def refused(*arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refused)
    assert predict(bundle.path, "x.png").err == "slimnet: error: x.png cannot be read (Permission denied).\n"
