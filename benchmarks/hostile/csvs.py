"""FER2013's CSV files, damaged and hostile; and the binary copy that is kept of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from hostile.cases import Record, Task, attempt, must_end_well
from hostile.given import Given
from hostile.judge import Fault
from hostile.sandbox import Command, Sandbox

PART = "csvs"
HEAD = b"emotion,pixels,Usage"
USAGES = (b"Training", b"PublicTest", b"PrivateTest")
TRAIN = ("train", "--model", "resnet8", "--data", "fer2013", "--data-dir", "d", "--epochs", "1", "--batch-size", "8", "--quiet")
SETTINGS = ("--precision", "fp32", "--method", "dense", "--image-size", "8", "--out", "run")
Change = Callable[[list[bytes], random.Random], bytes]


def _rows(rng: random.Random) -> list[bytes]:
    """A header and 36 rows."""
    rows = [HEAD]
    for number in range(36):
        pixels = b" ".join(b"%d" % rng.randrange(256) for _ in range(48 * 48))
        rows.append(b"%d,%s,%s" % (number % 7, pixels, USAGES[number % 3]))
    return rows


def _field(row: int, place: int, value: bytes) -> Change:
    def change(rows: list[bytes], rng: random.Random) -> bytes:
        fields = rows[row].split(b",")
        fields[place] = value
        rows[row] = b",".join(fields)
        return _joined(rows)

    return change


def _pixel(value: bytes) -> Change:
    def change(rows: list[bytes], rng: random.Random) -> bytes:
        label, pixels, usage = rows[5].split(b",")
        parts = pixels.split(b" ")
        parts[7] = value
        rows[5] = b",".join((label, b" ".join(parts), usage))
        return _joined(rows)

    return change


def _joined(rows: list[bytes]) -> bytes:
    return b"\n".join(rows) + b"\n"


def _whole(value: bytes) -> Change:
    return lambda rows, rng: value


LABELS = (
    b"7",
    b"-1",
    b"",
    b"x",
    b"1.0",
    b"1e0",
    b"\xd9\xa3",
    b"99999999999999999999",
    b"\x1b[2J",
    b"0x1",
    b"nan",
    b'"3"',
    b"+1",
    b" 1 ",
)
PIXELS = (
    b"256",
    b"-1",
    b"",
    b"1.5",
    b"1e2",
    b"\xd9\xa3",
    b"9" * 5000,
    b"\x1b]0;x\x07",
    b"nan",
    b"0x1",
    b"\0",
    b"1_0",
    b"FORGED\r",
)
USED = (b"", b"training", b"Test", b"\x1b[2J", b"Training,Training", b"\nFORGED", b"PublicTest " * 10_000, b"\xff\xfe")
HEADS = (
    b"",
    b"emotion,pixels",
    b"pixels,emotion,Usage",
    b" emotion, pixels, Usage",
    b"emotion,pixels,Usage,more",
    b"a,b,c",
    b"\xef\xbb\xbf" + HEAD,
)
HEADS += (
    b"emotion;pixels;Usage",
    b"emotion,emotion,pixels,Usage",
    b"\x1b[2J" + HEAD,
    b"x" * 100_000,
    HEAD + b"\r",
    b"EMOTION,PIXELS,USAGE",
    b"\0" + HEAD,
)


def _changes() -> Iterator[tuple[str, Change]]:
    for value in LABELS:
        yield f"label {value[:20]!r}", _field(3, 0, value)
    for value in PIXELS:
        yield f"pixel {value[:20]!r}", _pixel(value)
    for value in USED:
        yield f"usage {value[:20]!r}", _field(4, 2, value)
    for value in HEADS:
        yield f"header {value[:30]!r}", lambda rows, rng, v=value: _joined([v, *rows[1:]])
    yield "pixels of nothing", _field(5, 1, b"")
    yield "one pixel too many", lambda rows, rng: _joined([rows[0], rows[1].replace(b",", b",1 ", 1), *rows[2:]])
    yield "pixels apart by tabs", lambda rows, rng: _joined(rows).replace(b" ", b"\t", 50)
    yield "a row of 100 MB", lambda rows, rng: _joined([*rows, b"1," + b"1 " * (50 << 20) + b",Training"])
    yield "no line end for 50 MB", _whole(HEAD + b" " * (50 << 20))
    yield "10⁶ empty lines", lambda rows, rng: _joined(rows) + b"\n" * 10**6
    yield "lines of CR", lambda rows, rng: _joined(rows).replace(b"\n", b"\r")
    yield "lines of CR LF", lambda rows, rng: _joined(rows).replace(b"\n", b"\r\n")
    yield "quotation marks", lambda rows, rng: _joined(rows).replace(b",", b'","')
    yield "an open quotation mark", lambda rows, rng: _joined([rows[0], b'"' + rows[1], *rows[2:]])
    yield "UTF-16", lambda rows, rng: _joined(rows).decode().encode("utf-16")
    yield "bad UTF-8", lambda rows, rng: _joined(rows).replace(b"Training", b"Train\xffng", 3)
    yield "NUL between", lambda rows, rng: _joined(rows).replace(b"\n", b"\0\n")
    yield "only a header", lambda rows, rng: HEAD + b"\n"
    yield (
        "only Training",
        lambda rows, rng: _joined(rows).replace(b"PublicTest", b"Training").replace(b"PrivateTest", b"Training"),
    )
    yield "one class", lambda rows, rng: _joined([rows[0], *(b"3" + row[1:] for row in rows[1:])])
    yield "one row of each", lambda rows, rng: _joined(rows[:4])
    yield "empty", _whole(b"")
    yield "noise", lambda rows, rng: rng.randbytes(100_000)
    yield "a zip", _whole(b"PK\x03\x04" + bytes(1000))
    yield "JSON", _whole(b'[{"emotion": 1}]')
    yield "a formula", _field(3, 0, b"=cmd|'/C calc'!A0")
    for number in range(12):
        yield f"cut {number}", lambda rows, rng: (text := _joined(rows))[: rng.randrange(len(text))]
    for number in range(12):
        yield f"flipped {number}", lambda rows, rng: _flipped(_joined(rows), rng)


def _flipped(text: bytes, rng: random.Random) -> bytes:
    data = bytearray(text)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def case(name: str, change: Change, seed: str, *, good: bool = False) -> Task:
    """One file, read as it is, with bad rows left out, and once more from its copy."""

    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        rng = random.Random(seed)
        work = sandbox.fresh()
        (work / "d").mkdir()
        (work / "d" / "fer2013.csv").write_bytes(change(_rows(rng), rng))
        for label, more in (("train", ()), ("train --skip-bad-rows", ("--skip-bad-rows",)), ("train again", ())):
            command = Command(label, (*TRAIN, *SETTINGS, *more), output="run")
            yield attempt(sandbox, command, untouched=("d/fer2013.csv",), more=must_end_well if good else lambda outcome: ())

    return Task(PART, name, run)


def _copy(name: str, change: Callable[[Path], object]) -> Task:
    """The binary copy beside the file is changed: it counts as absent, or is refused, and never trained on."""

    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        work = sandbox.fresh()
        (work / "d").mkdir()
        (work / "d" / "fer2013.csv").write_bytes(_joined(_rows(random.Random(0))))
        yield attempt(sandbox, Command("load", call=lambda: _load("right")))
        for copy in (*(work / "d" / ".slimnet").glob("*"), *(sandbox.case / "home").rglob("*.safetensors")):
            change(copy)
        yield attempt(sandbox, Command("load again", call=lambda: _load("again")), more=lambda outcome: _same(work))

    return Task(PART, name, run)


def _load(name: str) -> None:
    from safetensors.torch import save_file

    from slimnet.data import load_data

    data = load_data("fer2013", data_dir="d")
    save_file({"images": data.train.images.contiguous(), "labels": data.train.labels.contiguous()}, f"{name}.safetensors")


def _same(work: Path) -> Iterator[Fault]:
    from safetensors.torch import load_file

    if (work / "again.safetensors").exists():
        right, again = (load_file(str(work / f"{name}.safetensors")) for name in ("right", "again"))
        if not all(right[name].equal(again[name]) for name in right):
            yield Fault("wrong", "other images than the file's are taken from a changed copy")


def _flip_copy(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _other_copy(path: Path) -> None:
    """Other tensors under the same key."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(str(path))
    for name, tensor in tensors.items():
        if name != "about":
            tensors[name] = tensor[:5].contiguous()
    save_file(tensors, str(path))


def _link_copy(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


COPIES: dict[str, Callable[[Path], object]] = {
    "a flipped bit in the copy": _flip_copy,
    "fewer rows in the copy": _other_copy,
    "a cut copy": lambda path: path.write_bytes(path.read_bytes()[:-500]),
    "an empty copy": lambda path: path.write_bytes(b""),
    "a copy that is a link": _link_copy,
    "a copy that is a folder": lambda path: (path.unlink(), path.mkdir()),
}


def tasks(rng: random.Random, given: Given) -> Iterator[Task]:
    """All of them: about 100."""
    seed = str(rng.random())
    yield case("honest", lambda rows, rng: _joined(rows), seed, good=True)
    for name, change in _changes():
        yield case(name, change, f"{seed} {name}")
    for name, copy in COPIES.items():
        yield _copy(name, copy)
