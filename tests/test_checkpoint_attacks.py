"""Files that are no honest checkpoints, and other things under its name: one line each, no code, no traceback."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from checkpoint_cases import Tiny, accelerate_model, state, tiny
from slimnet.errors import FileFormatError
from slimnet.models import check_file, load_weights

CANARY = "canary"


class Evil:
    """Unpickled, it calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.what = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.what


def touch() -> tuple[Any, ...]:
    return (subprocess.call, ["touch", CANARY])


def saved(make: Callable[[], Any], **how: Any) -> Callable[[Path], object]:
    return lambda path: torch.save(make(), path, **how)


def deep() -> Any:
    value: Any = {}
    for _ in range(300):
        value = {"state_dict": value}
    return value


def cyclic() -> Any:
    value: dict[str, Any] = {"epoch": 1}
    value["state_dict"] = value
    return value


def many_kinds_file(path: Path) -> None:
    """Names of 60 classes that are nowhere."""
    names = b"".join(b"K%ccfar_away\nKind%d\ns" % (i, i) for i in range(60))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}" + names + b".")
        archive.writestr("x/version", "3\n")


def script(path: Path) -> None:
    torch.jit.save(torch.jit.trace(tiny(), torch.zeros(1, 1, 8, 8)), path)


def tarred(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())


def packed_arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    return file.getvalue()


def onnx_file(path: Path) -> None:
    made = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    path.write_bytes(onnx.helper.make_model(made, producer_name="pytorch").SerializeToString())


EVIL: list[tuple[str, Callable[[Path], object], str]] = [
    (
        "os.system",
        saved(lambda: {"model": state(), "x": Evil(os.system, f"touch {CANARY}")}),
        "holds pickled objects.*posix.system",
    ),
    ("eval", saved(lambda: {"model": state(), "x": Evil(eval, f"open('{CANARY}','w')")}), "holds pickled objects.*eval"),
    ("getattr", saved(lambda: {"model": state(), "x": Evil(getattr, 1, "real")}), "holds pickled objects.*getattr"),
    ("as a tensor", saved(lambda: {**state(), "token": Evil(*touch())}), "is not a plain state dict: not tensors are token"),
    ("as all", saved(lambda: Evil(*touch())), "holds pickled objects"),
    ("a bytearray", saved(lambda: {"model": state(), "x": bytearray(10)}), "holds a bytearray"),
    ("deep", saved(deep), "holds no state dict"),
    ("cyclic", saved(cyclic), r"not tensors are epoch \(int\), state_dict \(dict\)"),
    ("kinds", many_kinds_file, "more than 40 kinds"),
    ("empty", lambda path: path.touch(), "is empty"),
    ("page", lambda path: path.write_text("\n<!DOCTYPE html><html>404"), "is a page of the web"),
    ("pointer", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1"), "git lfs pull"),
    ("script", script, "is a TorchScript archive"),
    ("tar", tarred, "is a tar archive"),
    ("npz", lambda path: path.write_bytes(packed_arrays()), "is an archive of NumPy arrays"),
    ("gzip", lambda path: path.write_bytes(b"\x1f\x8b" + bytes(30)), "unpack it first"),
    ("lua", lambda path: path.write_bytes(b"\x04\0\0\0\x01\0\0\0" + bytes(30)), "Lua Torch 7"),
    ("onnx", onnx_file, "is an ONNX file"),
    ("pickle", lambda path: path.write_bytes(pickle.dumps({"a": 1}, 4)), "not a readable file of weights"),
    ("header", lambda path: path.write_bytes(struct.pack("<Q", 9) + b'{"a": 1}!' + bytes(9)), "not a readable safetensors file"),
]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(("write", "message"), [pytest.param(*case[1:], id=case[0]) for case in EVIL])
@pytest.mark.parametrize("name", ["x", "x.ckpt"])
def test_one_line_and_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path], object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    model = Tiny()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(FileFormatError, match=message) as caught:
        load_weights(model, tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / CANARY).exists()
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def a_namespace_with_code() -> Any:
    return argparse.Namespace(run=Evil(*touch()), array=Evil(np.ones, 1 << 40))


@pytest.mark.parametrize("old", [False, True])
def test_what_stands_beside_the_weights_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    """It names functions, and arguments of 8 TB for one; the weights are read, and nothing of it is called or made."""
    monkeypatch.chdir(tmp_path)
    content = {"model": state(), "args": a_namespace_with_code(), "x": Evil(*touch())}
    torch.save(content, tmp_path / "x", _use_new_zipfile_serialization=not old)
    model = Tiny()
    load_weights(model, tmp_path / "x")
    assert all(torch.equal(tensor, state()[name]) for name, tensor in model.state_dict().items())
    assert not (tmp_path / CANARY).exists()


def test_nothing_stays_allowed(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    torch.save({"model": state(), "args": a_namespace_with_code()}, tmp_path / "x")
    load_weights(Tiny(), tmp_path / "x")
    assert set(torch.serialization.get_safe_globals()) == before


def test_scalars_of_python_2_are_read(tmp_path: Path) -> None:
    """A binary text that is no UTF-8, as numpy's scalars had it there."""
    torch.save({"model": state(), "best": "HERE"}, tmp_path / "new")
    with zipfile.ZipFile(tmp_path / "new") as old, zipfile.ZipFile(tmp_path / "x", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"X\x04\0\0\0HERE", b"U\x04\xff\xfe\x00\x80"))
    load_weights(Tiny(), tmp_path / "x")


INDEXES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda index: index["weight_map"].update(token="../secret.safetensors"), "cannot hold '../secret.safetensors'"),
    (lambda index: index["weight_map"].update(token="/etc/passwd"), "cannot hold '/etc/passwd'"),
    (lambda index: index["weight_map"].update(token="link.safetensors"), "is a symbolic link"),
    (lambda index: index["weight_map"].update(token="gone.safetensors"), "gone.safetensors does not exist"),
    (lambda index: index["weight_map"].update(token=3), "is no index of shards"),
    (lambda index: index["weight_map"].update(more=next(iter(index["weight_map"].values()))), "its shards lack: more"),
    (lambda index: index.update(weight_map={}), "is no index of shards"),
]


@pytest.mark.parametrize(("change", "message"), INDEXES)
def test_an_index_names_files_beside_it_alone(tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    folder = accelerate_model(tmp_path, max_shard_size="1KB")
    save_file({"token": torch.zeros(1, 9)}, tmp_path / "secret.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    (path,) = folder.glob("*.index.json")
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    for given in (folder, path):
        with pytest.raises(FileFormatError, match=message):
            load_weights(Tiny(), given)


FOLDERS = {"slim.safetensors": "is a slim network", "model.json": "is a bundle", ".metadata": "dcp_to_torch",
           "zero_to_fp32.py": "DeepSpeed", "checkpoint.safetensors": "did not finish"}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_other_folders_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(FileFormatError, match=FOLDERS[name]):
        check_file(tmp_path)
