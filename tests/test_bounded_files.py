"""Files of 2 KB that ask for gigabytes: refused by what they say of themselves, in a process that could not have them."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from slimnet.data.decode import read_header, read_image
from slimnet.errors import DataError, FileFormatError
from slimnet.measure import inputs
from slimnet.models.weights import read_state_dict

ROOM = 64 << 20
"""Bytes that the reading process may take; each file asks for more."""
MUCH = 2 * ROOM
Write = Callable[[Path], object]

CHILD = """
import resource, sys
from pathlib import Path
from slimnet.errors import FileFormatError
from slimnet.measure.inputs import read_inputs
from slimnet.models.weights import read_state_dict
held = 1024 * int(Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_AS, (held + {room}, held + {room}))
for name in sys.argv[1:]:
    try:
        (read_inputs if name.endswith((".npy", ".npz")) else read_state_dict)(Path(name))
        print("read")
    except FileFormatError as error:
        print(error)
"""


def archive(member: str, *, compression: int = zipfile.ZIP_DEFLATED) -> Write:
    """What torch writes, with one member exchanged for zeros, packed."""

    def write(path: Path) -> None:
        whole = io.BytesIO()
        torch.save({"w": torch.zeros(4)}, whole)
        with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", compression, compresslevel=1) as new:
            for name in old.namelist():
                with new.open(name, "w") as file:
                    for block in [bytes(1 << 20)] * (MUCH >> 20) if name.endswith(member) else [old.read(name)]:
                        file.write(block)

    return write


def repeated_entries(path: Path) -> None:
    """An archive whose directory names the same bytes again and again."""
    with zipfile.ZipFile(path, "w") as new:
        new.writestr("x/data.pkl", bytes(1 << 16))
        first = new.infolist()[0]
        new.filelist += [first] * (MUCH >> 16)


def of_pickle(code: bytes, *, old: bool = False) -> Write:
    """A file for torch that holds ``code``, in the format of today or in that before torch 1.6."""

    def write(path: Path) -> None:
        if old:
            system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
            heads: list[object] = [0x1950A86A20F9469CFC6C, 1001, system]
            path.write_bytes(b"".join(pickle.dumps(head, protocol=2) for head in heads) + code + pickle.dumps([], protocol=2))
            return
        torch.save({"w": torch.zeros(4)}, path)
        with zipfile.ZipFile(path) as given:
            members = {name: given.read(name) for name in given.namelist()}
        with zipfile.ZipFile(path, "w") as new:
            for name, data in members.items():
                new.writestr(name, code if name.endswith("data.pkl") else data)

    return write


def made(name: bytes, argument: bytes) -> bytes:
    """A pickle of ``{"w": name(argument)}``."""
    return b"\x80\x02}X\x01\x00\x00\x00wc" + name + argument + b"\x85Rs."


NUMBER, QUARTER = (b"J" + struct.pack("<i", number) for number in (MUCH, MUCH // 4))
BYTEARRAY = made(b"builtins\nbytearray\n", NUMBER)
PYTHON_2 = made(b"__builtin__\nbytearray\n", NUMBER)


def old_storage(path: Path) -> None:
    """Before torch 1.6: a storage that is said to be larger than what is there."""
    content = io.BytesIO()
    torch.save({"w": torch.zeros(70_007)}, content, _use_new_zipfile_serialization=False)
    given, wanted = (struct.pack("<i", number) for number in (70_007, MUCH // 4))
    data = content.getvalue()
    assert data.count(b"J" + given) >= 1
    path.write_bytes(data.replace(b"J" + given, b"J" + wanted)[:2000])


def saved(make: Callable[[], torch.Tensor], *, old: bool = False) -> Write:
    def write(path: Path) -> None:
        torch.save({"w": make()}, path, _use_new_zipfile_serialization=not old)

    return write


def safetensors(shape: list[int], held: int, *, header: int | None = None) -> Write:
    text = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, held]}}).encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(text) if header is None else header) + text + bytes(16))


def expanded() -> torch.Tensor:
    return torch.zeros(1).expand(MUCH)


WEIGHTS: dict[str, tuple[Write, str]] = {
    "zeros.pth": (archive("data/0"), r"unfolds to [\d,]+ bytes and is [\d,]+ long"),
    "pickle.pth": (archive("data.pkl"), r"unfolds to [\d,]+ bytes and is [\d,]+ long"),
    "again.pth": (repeated_entries, r"unfolds to [\d,]+ bytes and is [\d,]+ long"),
    "expanded.pth": (saved(expanded), r"holds tensors of [\d,]+ bytes and is [\d,]+ long"),
    "expanded_old.pth": (saved(expanded, old=True), r"holds tensors of [\d,]+ bytes and is [\d,]+ long"),
    "overlapping.pth": (
        saved(lambda: torch.zeros(20_000).as_strided((10_000, 10_000), (1, 1))),
        r"holds tensors of [\d,]+ bytes and is [\d,]+ long",
    ),
    "bytes.pth": (of_pickle(BYTEARRAY), "it holds a bytearray"),
    "bytes_of_python_2.pth": (of_pickle(PYTHON_2), "it holds a bytearray"),
    "bytes_old.pth": (of_pickle(BYTEARRAY, old=True), "it holds a bytearray"),
    "storage_old.pth": (old_storage, "is not a readable file of weights"),
    "new_tensor.pth": (
        of_pickle(made(b"torch\nTensor\n", b"J" + struct.pack("<i", MUCH // 4))),
        "holds tensors of|not a readable",
    ),
    "shape.safetensors": (safetensors([MUCH // 4], 16), "is not a readable safetensors file"),
    "offsets.safetensors": (safetensors([MUCH // 4], MUCH), "is not a readable safetensors file"),
    "header.safetensors": (safetensors([4], 16, header=1 << 60), "is not a readable safetensors file"),
    "sparse.pth": (saved(lambda: torch.sparse_coo_tensor([[0], [0]], [1.0], (MUCH, MUCH), check_invariants=True)), "w is sparse"),
    "meta.pth": (saved(lambda: torch.zeros(MUCH, device="meta")), "w holds no values"),
}


def claiming(path: Path) -> None:
    """An array whose header says that it is large."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (MUCH,)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)


def claiming_in_archive(path: Path) -> None:
    claiming(path.with_suffix(".npy"))
    with zipfile.ZipFile(path, "w") as new:
        new.write(path.with_suffix(".npy"), "x.npy")


INPUTS: dict[str, tuple[Write, str]] = {
    "claim.npy": (claiming, r"claim.npy is not a readable .npy or .npz file"),
    "claim.npz": (claiming_in_archive, r"claim.npz is not a readable .npy or .npz file"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the bound on memory is Linux's")
def test_small_files_take_little_memory(tmp_path: Path) -> None:
    rows = {**WEIGHTS, **INPUTS}
    for name, (write, _) in rows.items():
        write(tmp_path / name)
    large = [name for name in rows if (tmp_path / name).stat().st_size > MUCH // 50]
    assert large == [], "the files are small"
    command = [sys.executable, "-c", CHILD.format(room=ROOM), *rows]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(rows), done.stdout
    wrong = {name: line for line, (name, (_, message)) in zip(said, rows.items(), strict=True) if not re.search(message, line)}
    assert wrong == {}
    assert [line for line in said if line == "read"] == []


def test_honest_files_are_read_as_before(tmp_path: Path) -> None:
    """Tied weights, a view of a larger storage, an archive that was packed anew, the format before torch 1.6."""
    weight = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    state = {"a": weight, "b": weight, "c": weight[:3], "d": weight.T, "e": torch.tensor(1), "f": torch.zeros(0)}
    torch.save(state, tmp_path / "new.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(tmp_path / "new.pth") as old, zipfile.ZipFile(tmp_path / "zip.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    for name in ("new.pth", "old.pth", "zip.pth"):
        read = read_state_dict(tmp_path / name)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[key], value) for key, value in state.items()), name


def test_packed_inputs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros((1000, 100), np.float32))
    assert np.shape(inputs.read_inputs(path)) == (1000, 100)
    monkeypatch.setattr(inputs, "MOST_UNPACKED", 100_000)
    with pytest.raises(FileFormatError, match=r"x\.npz unfolds to 400,\d+ bytes and is [\d,]+ long"):
        inputs.read_inputs(path)


def png(width: int, height: int) -> bytes:
    """The head of a picture of that size."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + head
        + struct.pack(">I", zlib.crc32(head))
        + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (30_000, 30_000, r"x\.png has more pixels than are decoded \(89,478,485\)"),
        (12_000, 9_000, r"x\.png has 108,000,000 pixels: at most 89,478,485 are decoded"),
        (1, 80_000_000, r"x\.png is 1×80,000,000 pixels: too narrow to be brought to 48×48"),
    ],
)
def test_pictures_to_train_on_are_bounded(tmp_path: Path, width: int, height: int, message: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(width, height))
    with pytest.raises(DataError, match=message):
        read_image(path, channels=1, size=(48, 48))
    if "narrow" not in message:
        with pytest.raises(DataError, match=message):
            read_header(path)
