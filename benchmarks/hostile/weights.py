"""Files of weights that are none, hold code, or unpack to far more than they weigh."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile.cases import Record, Task, attempt, flipped, must_end_well
from hostile.given import NETWORK, Given
from hostile.sandbox import Command, Sandbox

PART = "weights"
Write = Callable[[Path, dict[str, Any]], object]  # a file, the good tensors
ALL = (".pth", ".pt", ".th")


def commands(file: str) -> tuple[Command, ...]:
    """Every command that reads weights."""
    train = (
        "--model",
        "resnet8",
        "--epochs",
        "1",
        "--batch-size",
        "32",
        "--train-fraction",
        "0.05",
        "--precision",
        "fp32",
        "--quiet",
        "--method",
        "dense",
    )
    return (
        Command("train --init", ("train", *train, "--init", file, "--out", "run"), output="run"),
        Command("slim", ("slim", file, *NETWORK, "--out", "slim"), output="slim"),
        Command("prune", ("prune", file, *NETWORK, "--rate", "0.3", "--out", "pruned"), output="pruned"),
        Command("inspect", ("inspect", file, *NETWORK)),
        Command("inspect by shapes", ("inspect", file, "--model", "resnet8", "--image-size", "8")),
    )


class _Code:
    """Unpickled, it writes a file."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.what = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.what


def _pickled(value: Callable[[Path], Any], protocol: int = 2) -> Write:
    return lambda path, good: path.write_bytes(pickle.dumps(value(path.parents[1] / "CANARY"), protocol))


def _zipped(value: Callable[[Path], Any], *, name: str = "archive/data.pkl") -> Write:
    """A pickle in the archive that torch writes."""

    def write(path: Path, good: dict[str, Any]) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, pickle.dumps(value(path.parents[1] / "CANARY"), 2))
            archive.writestr("archive/version", "3\n")
            archive.writestr("archive/byteorder", "little")

    return write


def _evil(function: Any, *arguments: Any) -> Callable[[Path], Any]:
    return lambda canary: {"conv1.weight": _Code(function, *(str(canary) if a == "CANARY" else a for a in arguments))}


def _saved(change: Callable[[dict[str, Any]], Any], **options: Any) -> Write:
    def write(path: Path, good: dict[str, Any]) -> None:
        import torch

        torch.save(change(dict(good)), path, **options)

    return write


def _bomb(mib: int) -> Write:
    """The archive's tensors are zeros, and packed: a few kilobytes that declare ``mib`` MiB."""

    def write(path: Path, good: dict[str, Any]) -> None:
        import torch

        buffer = io.BytesIO()
        torch.save({"conv1.weight": torch.zeros(mib << 18)}, buffer)
        with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))

    return write


def _safetensors(head: Callable[[dict[str, Any]], Any], *, size: int | None = None, tail: int | None = None) -> Write:
    """A changed header before the same numbers."""

    def write(path: Path, good: dict[str, Any]) -> None:
        from safetensors.torch import save

        data = save(good)
        length = struct.unpack("<Q", data[:8])[0]
        changed = head(json.loads(data[8 : 8 + length]))
        raw = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        body = data[8 + length :] if tail is None else data[8 + length :][:tail]
        path.write_bytes(struct.pack("<Q", len(raw) if size is None else size) + raw + body)

    return write


def _tensors(change: Callable[[dict[str, Any]], Any]) -> Write:
    def write(path: Path, good: dict[str, Any]) -> None:
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in change(dict(good)).items()}, str(path))

    return write


def _each(function: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda good: {name: function(tensor) if tensor.is_floating_point() else tensor for name, tensor in good.items()}


def _to(dtype: str) -> Callable[[Any], Any]:
    import torch

    return lambda tensor: tensor.to(getattr(torch, dtype))


def _set(key: str, place: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(head: dict[str, Any]) -> dict[str, Any]:
        head[key][place] = value
        return head

    return change


def _named(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda good: {**good, name: next(iter(good.values())).clone()}


def _same(good: dict[str, Any]) -> dict[str, Any]:
    return good


def changes() -> Iterator[tuple[str, str, Write]]:
    """What is done, the suffix, and how."""
    import torch

    dtypes = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float64", "int64", "int8", "bool")
    shared = {
        **{f"tensors of {name}": _each(_to(name)) for name in dtypes},
        "NaN": _each(lambda t: t * float("nan")),
        "infinite": _each(lambda t: t + float("inf")),
        "denormal": _each(lambda t: t * 0 + 1e-42),
        "3e38": _each(lambda t: t * 0 + 3e38),
        "no tensors": lambda good: {},
        "one tensor": lambda good: dict(list(good.items())[:1]),
        "an empty tensor": lambda good: {**good, "conv1.weight": torch.zeros(0, 1, 3, 3)},
        "a number": lambda good: {**good, "conv1.weight": torch.tensor(1.0)},
        "ten dimensions": lambda good: {**good, "conv1.weight": torch.zeros([1] * 10)},
        "escapes in a name": _named("\x1b[2J\x1b]0;x\x07\nFORGED"),
        "C1 in a name": _named("\x9b31m"),
        "a long name": _named("n" * 100_000),
        "a dotted name": _named("../../outside/secret"),
        "an empty name": _named(""),
        "100,000 tensors": lambda good: {f"t{i}": torch.zeros(1) for i in range(100_000)},
        "wrong names": lambda good: {f"x.{name}": tensor for name, tensor in good.items()},
        "a last layer of no classes": lambda good: {**good, "linear.weight": torch.zeros(0, 64), "linear.bias": torch.zeros(0)},
    }
    for what, change in shared.items():
        yield what, ".safetensors", _tensors(change)
        yield what, ".pth", _saved(change)
    heads: dict[str, Write] = {
        "a header of 2⁶³ bytes": _safetensors(_same, size=1 << 63),
        "a header of 10⁹ bytes": _safetensors(_same, size=10**9),
        "a header of nothing": _safetensors(lambda head: b""),
        "a header 100,000 deep": _safetensors(lambda head: b"[" * 100_000),
        "a header of text": _safetensors(lambda head: b"\x1b[2J hello"),
        "a huge shape": _safetensors(_set("conv1.weight", "shape", [1 << 40, 1 << 40])),
        "a negative shape": _safetensors(_set("conv1.weight", "shape", [-1])),
        "a shape of floats": _safetensors(_set("conv1.weight", "shape", [1.5])),
        "offsets beyond the end": _safetensors(_set("conv1.weight", "data_offsets", [0, 1 << 50])),
        "offsets that turn round": _safetensors(_set("conv1.weight", "data_offsets", [100, 0])),
        "an unknown type": _safetensors(_set("conv1.weight", "dtype", "\x1b[2JF99")),
        "a foreign number": _safetensors(_set("conv1.weight", "more", 9)),
        "no numbers": _safetensors(_same, tail=0),
        "metadata of escapes": _safetensors(lambda head: {**head, "__metadata__": {"\x1b[2J": "\x1b]0;x\x07"}}),
        "metadata that is a list": _safetensors(lambda head: {**head, "__metadata__": []}),
        "metadata of 10⁷ letters": _safetensors(lambda head: {**head, "__metadata__": {"a": "x" * 10**7}}),
    }
    for what, write in heads.items():
        yield what, ".safetensors", write
    yield from _pickles()
    for suffix in (".pth", ".safetensors"):
        for what, make in _NO_FILES.items():
            yield what, suffix, lambda path, good, m=make: m(path)


def _pickles() -> Iterator[tuple[str, str, Write]]:
    import torch

    evil = {
        "os.system": _evil(os.system, "touch CANARY"),
        "open": _evil(open, "CANARY", "w"),
        "eval": _evil(eval, "open('CANARY', 'w')"),
        "exec": _evil(exec, "import pdb"),
        "torch.load": _evil(torch.load, "../outside/secret.bin"),
        "getattr": _evil(getattr, _Code(__import__, "os"), "system"),
        "torch.hub.load": _evil(torch.hub.load, "a/b", "c"),
        "numpy.load": lambda canary: {"a": _Code(__import__("numpy").load, "../outside/secret.bin")},
        "os._exit": _evil(os._exit, 0),
        "a module": lambda canary: torch.nn.Linear(2, 2),
    }
    for number, (what, value) in enumerate(evil.items()):
        yield f"a pickle of {what}", ALL[number % 3], _pickled(value)
        yield f"an archive with {what}", ALL[(number + 1) % 3], _zipped(value)
    for what, value in (
        ("a list", [1]),
        ("five", 5),
        ("text", "\x1b[2J"),
        ("nothing", None),
        ("a dict of numbers", {"a": 1}),
    ):
        yield what, ".pth", _saved(lambda good, v=value: v)
    deep: Any = {}
    for _ in range(200):
        deep = {"state_dict": deep}
    yield "a dict 200 deep", ".pth", _saved(lambda good: deep)
    yield "a dict in itself", ".pth", _saved(_in_itself)
    yield "numbers as names", ".pth", _saved(lambda good: dict(enumerate(good.values())))
    yield "a sparse tensor", ".pth", _saved(lambda good: {**good, "conv1.weight": torch.zeros(16, 1).to_sparse()})
    yield "a tensor on meta", ".pth", _saved(lambda good: {**good, "conv1.weight": torch.zeros(16, 1, 3, 3, device="meta")})
    yield (
        "a complex tensor",
        ".pth",
        _saved(lambda good: {**good, "conv1.weight": torch.zeros(16, 1, 3, 3, dtype=torch.complex64)}),
    )
    huge = (1 << 20, 1 << 20)
    yield "a number expanded to 4 TB", ".pth", _saved(lambda good: {**good, "conv1.weight": torch.zeros(1).expand(huge)})
    yield "a number expanded to 8 GB", ".pth", _saved(lambda good: {**good, "conv1.weight": torch.zeros(1).expand(1 << 31)})
    yield "the right shapes, expanded", ".pth", _saved(_each(lambda t: t.flatten()[:1].expand(t.numel()).reshape(t.shape)))
    yield "the old format", ".pth", _saved(_same, _use_new_zipfile_serialization=False)
    yield "the old format, with code", ".pth", _saved(lambda good: torch.nn.Linear(2, 2), _use_new_zipfile_serialization=False)
    for mib in (1500, 3000):
        yield f"a bomb of {mib} MiB", ".pth", _bomb(mib)
    yield "a script", ".pt", _script
    yield "an archive with a path upwards", ".pth", _zipped(lambda canary: {}, name="../../outside/data.pkl")
    yield "an archive of nothing", ".pth", lambda path, good: zipfile.ZipFile(path, "w").close()
    yield "a tar", ".pth", lambda path, good: path.write_bytes(b"ustar" * 1000)


def _script(path: Path, good: dict[str, Any]) -> None:
    import torch

    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))


def _in_itself(good: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["state_dict"] = value
    return value


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(20 << 30)


_NO_FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(random.Random(0).randbytes(5000)),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link in a circle": lambda path: path.symlink_to(path.name),
    "20 GiB of nothing": _sparse,
}


def case(name: str, suffix: str, write: Write, *, good: bool = False) -> Task:
    """One file for every command."""

    def run(sandbox: Sandbox, given: Given) -> Iterator[Record]:
        from safetensors.torch import load_file

        work = sandbox.fresh()
        file = f"w{suffix}"
        write(work / file, load_file(str(given.folder / "run" / "model.safetensors")))
        for command in commands(file):
            yield attempt(sandbox, command, untouched=(file,), more=must_end_well if good else lambda outcome: ())

    return Task(PART, name, run)


def _damaged(kind: str, place: int, bit: int) -> Write:
    def write(path: Path, good: dict[str, Any]) -> None:
        (_tensors(_same) if path.suffix == ".safetensors" else _saved(_same))(path, good)
        if kind == "truncated":
            os.truncate(path, place % path.stat().st_size)
        else:
            flipped(path, place, bit)

    return write


def tasks(rng: random.Random, given: Given) -> Iterator[Task]:
    """All of them: about 150."""
    for suffix in (".safetensors", ".pth"):
        write = _tensors(_same) if suffix == ".safetensors" else _saved(_same)
        yield case(f"honest {suffix}", suffix, write, good=True)
    for what, suffix, write in changes():
        yield case(f"{what} ({suffix})", suffix, write)
    for suffix in (".safetensors", ".pth", ".pt", ".th"):
        for kind in ("truncated", "flipped", "flipped in its head", "truncated at its end"):
            place, bit = rng.randrange(1 << 30), rng.randrange(8)
            at = {"flipped in its head": place % 200, "truncated at its end": -1 - place % 300}.get(kind, place)
            yield case(f"{kind} ({suffix})", suffix, _damaged(kind.split()[0], at, bit))
