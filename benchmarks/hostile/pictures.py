"""Odd, damaged and hostile pictures: each beside a good one, whose answer must not change."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hostile.cases import Record, Task, attempt, flipped
from hostile.given import Given
from hostile.judge import Fault
from hostile.sandbox import Command, Outcome, Sandbox

PART = "pictures"
Write = Callable[[Path], object]
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
SUFFIX = {"JPEG": "jpg", "TIFF": "tif"}
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F")


def _image(mode: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    width, height = size
    noise = np.frombuffer(rng.randbytes(width * height * 4), np.uint8).reshape(height, width, 4)
    if mode in ("I", "F", "I;16"):
        numbers = noise[..., 0].astype({"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode])
        return Image.fromarray(numbers * np.array(257 if mode == "I;16" else 1, numbers.dtype))
    if mode in ("LAB", "HSV", "YCbCr"):
        return Image.frombytes(mode, size, noise[..., :3].tobytes())
    picture = Image.fromarray(noise)
    return picture if mode == "RGBA" else picture.convert("RGBA" if mode == "PA" else mode).convert(mode)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes | None:
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except (OSError, ValueError, KeyError):
        return None
    return buffer.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, depth: int = 8, colour: int = 0, data: bytes | None = None, extra: bytes = b"") -> bytes:
    """A PNG by hand: it may declare what it does not hold."""
    rows = zlib.compress(b"\0" * min(1 << 16, (width + 1) * height)) if data is None else data
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + extra + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _bombs() -> Iterator[tuple[str, bytes]]:
    for width, height in ((1 << 30, 1 << 30), (65_535, 65_535), (30_000, 30_000), (1, 10**7), (10**7, 1), (0, 0), (1 << 31, 1)):
        yield f"PNG of {width}×{height}.png", png(width, height)
    yield "PNG of 12,000×12,000 zeros.png", png(12_000, 12_000, data=zlib.compress(bytes(12_000 * 12_001), 9))
    text = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 << 20), 9))
    yield "PNG with 200 MiB of text.png", png(8, 8, extra=text)
    yield "PNG with 200 MiB of profile.png", png(8, 8, extra=_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200 << 20), 9)))
    yield "PNG with 50,000 chunks.png", png(8, 8, extra=_chunk(b"tEXt", b"a\0b") * 50_000)
    for depth, colour in ((16, 0), (16, 2), (1, 0), (4, 3), (8, 7), (3, 0)):
        yield f"PNG of depth {depth}, colour {colour}.png", png(8, 8, depth=depth, colour=colour)
    for size in ((1 << 31) - 1, 60_000):
        yield (
            f"BMP of {size}.bmp",
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, size, size, 1, 24, 0, 0, 0, 0, 0, 0),
        )
        yield f"PPM of {size}.ppm", f"P6 {size} {size} 255\n".encode()
    yield "PPM with a long comment.ppm", b"P6\n#" + b"x" * 10**6 + b"\n8 8 255\n" + bytes(192)
    yield "PPM of text.pgm", b"P2 8 8 255\n" + b"9" * 100_000
    yield (
        "GIF of 65,535.gif",
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        + b"\x08\0;",
    )
    yield "TIFF in a circle.tif", b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8)
    yield "TIFF beyond its end.tif", b"II*\0" + struct.pack("<I", 1 << 31)
    yield "TIFF of many tags.tif", b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(12) * 65535


def _foreign() -> Iterator[tuple[str, bytes]]:
    yield "SVG.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "EPS.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(CANARY) (w) file\n"
    yield "EPS named.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"
    yield "PDF.png", b"%PDF-1.4\n"
    yield "HTML.png", b"<html>\x1b[2J</html>"
    yield "empty.png", b""
    yield "NUL.png", bytes(100)
    yield "zip.png", b"PK\x03\x04" + bytes(100)
    yield "ELF.png", b"\x7fELF" + bytes(100)
    yield "FLI.png", b"\0\0\0\0\x12\xaf" + bytes(200)
    yield "ICO.ico", b"\0\0\1\0\1\0" + bytes(100)
    yield "text with escapes.png", b"\x1b]0;x\x07\x1b[2J"
    yield "JPEG of a head.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0"


NAMES = (
    *(
        "esc\x1b[2J\x1b]0;x\x07.png",
        "line\nFORGED good.png happy 99.png",
        "cr\rFORGED.png",
        "c1\x9b31m.png",
        "bidi\u202egnp.exe.png",
    ),
    *("tab\t.png", "del\x7f.png", "-x.png", "--json.png", "ü€😀.png", " .png", "'\";$(touch CANARY).png", "n" * 250 + ".png"),
    *("a\u2028FORGED.png", "%s%n{0}.png", "~.png"),
)


def _written(data: bytes) -> Write:
    return lambda path: path.write_bytes(data)


def _pictures(rng: random.Random) -> Iterator[tuple[str, Write]]:
    for mode in MODES:
        for kind in FORMATS:
            data = _encoded(_image(mode, (11, 7), rng), kind)
            if data is not None:
                yield f"{mode.replace(';', '')}.{SUFFIX.get(kind, kind.lower())}", _written(data)
    for size in ((1, 1), (1, 300), (300, 1), (1, 60_000), (8, 8), (4000, 3000)):
        yield f"{size[0]} by {size[1]}.png", _written(_encoded(_image("L", size, rng), "PNG") or b"")
    frames = [_image("P", (9, 9), rng) for _ in range(5)]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        data = _encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        yield f"animated.{SUFFIX.get(kind, kind.lower())}", _written(data or b"")
    exif = Image.Exif()
    for value in (3, 6, 8, 99, 0):
        exif[0x0112] = value
        yield f"turned {value}.jpg", _written(_encoded(_image("RGB", (20, 10), rng), "JPEG", exif=exif) or b"")
    yield (
        "EXIF of garbage.jpg",
        _written(_encoded(_image("RGB", (9, 9), rng), "JPEG", exif=b"Exif\0\0" + rng.randbytes(500)) or b""),
    )
    for name, data in (*_bombs(), *_foreign()):
        yield name, _written(data)
    for kind in FORMATS:
        data = _encoded(_image("RGB", (16, 16), rng), kind) or b""
        for number in range(22):
            place, bit = rng.randrange(len(data)), rng.randrange(8)
            if number % 2:
                yield f"cut {number}.{kind.lower()}", _written(data[:place])
            else:
                at = place if number % 4 else place % 32
                yield (
                    f"flipped {number}.{kind.lower()}",
                    lambda path, d=data, p=at, b=bit: (path.write_bytes(d), flipped(path, p, b)),
                )
    yield from {
        "a pipe.png": os.mkfifo,
        "a folder.png": Path.mkdir,
        "a link to nothing.png": lambda path: path.symlink_to("nothing\x1b[2J"),
        "a link in a circle.png": lambda path: path.symlink_to(path.name),
        "a link to dev zero.png": lambda path: path.symlink_to("/dev/zero"),
        "sparse 3 GiB.png": lambda path: (path.write_bytes(b"\x89PNG\r\n\x1a\n"), os.truncate(path, 3 << 30)),
    }.items()


def _still_there(wanted: str) -> Callable[[Outcome], Iterator[Fault]]:
    """The good picture has its answer, whatever lies beside it."""

    def look(outcome: Outcome) -> Iterator[Fault]:
        if outcome.status not in (0, 1):
            return
        found = [
            line for line in outcome.out.decode(errors="replace").splitlines() if "good.png" in line and "FORGED" not in line
        ]
        if not found:
            yield Fault("wrong", "the good picture beside it has no answer")
        elif wanted and wanted not in found:
            yield Fault("wrong", "the good picture beside it has another answer")

    return look


def case(name: str, base: str, write: Write) -> Task:
    """A picture in a file ``base`` beside a good one; once named, once as JSON in a folder."""

    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        work = sandbox.fresh()
        given.copy("bundle", work / "b")
        (work / "pictures").mkdir()
        given.copy("good.png", work / "pictures" / "good.png")
        write(work / "pictures" / base)
        alone = sandbox.execute(Command("predict", ("predict", "b", "pictures/good.png", "--json")))
        answer = json.loads(alone.out.decode().splitlines()[0])
        wanted = json.dumps(answer, ensure_ascii=False)
        named = Command("predict", ("predict", "b", "pictures/good.png", f"pictures/{base}"))
        yield attempt(sandbox, named, untouched=("pictures", "b"), more=_still_there(""))
        folder = Command("predict --json", ("predict", "b", "pictures", "--json", "--batch", "1"))
        yield attempt(sandbox, folder, untouched=("pictures", "b"), more=_still_there(wanted))

    return Task(PART, name, run)


def tasks(rng: random.Random, given: Given) -> Iterator[Task]:
    """All of them: about 330."""
    for name, write in _pictures(rng):
        yield case(name, name, write)
    for name in NAMES:
        yield case(f"named {name[:40]!r}", name, _written(png(8, 8)))
        yield case(f"no picture, named {name[:40]!r}", name, _written(b"no picture"))
