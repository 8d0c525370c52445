"""slimnet verify: what passes, and which fault is found where."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from slimnet.bundle.manifest import ALL_FILES
from slimnet.bundle.seal import is_sealed, sealed
from slimnet.commands import verify_bundle
from slimnet.errors import FileFormatError
from slimnet.export import read_bundle
from slimnet.files import read_json
from slimnet_cli import _run


def change(folder: Path, edit, *, seal: bool = True) -> None:
    """Edit ``model.json``, and seal it again as if it had been written so."""
    model = read_json(folder / "model.json")
    edit(model)
    (folder / "model.json").write_bytes(sealed(model) if seal else json.dumps(model).encode())


def test_a_good_bundle_passes_every_check(plain, full):
    for bundle in (plain, full):
        report = verify_bundle(bundle.path, trust_code=True)
        assert (report.faults, report.skipped) == ((), ())
        assert report.figures["parity"] <= 1e-5
    assert report.figures["correlation of int8"] == pytest.approx(1.0)


@pytest.mark.parametrize("name", ALL_FILES)
def test_one_flipped_byte_is_found_and_the_file_named(name, copied):
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    faults = verify_bundle(copied).faults
    assert faults and all(fault.startswith(f"{copied / name} ") for fault in faults)
    with pytest.raises(FileFormatError, match=name):
        read_bundle(copied)


def test_no_byte_of_model_json_can_be_changed(full):
    data = (full.path / "model.json").read_bytes()
    assert is_sealed(data, full.model)
    for place in range(len(data)):
        changed = bytes((*data[:place], data[place] ^ 4, *data[place + 1 :]))
        try:
            model = json.loads(changed)
        except ValueError:
            continue
        assert not is_sealed(changed, model), changed[place - 20 : place + 20]


FAULTS = {
    "a label is missing": (lambda m: m["labels"].pop(), "has 4 labels, but the network's output is"),
    "unknown schema": (lambda m: m.update(schema=3), "is slimnet-bundle 3, not slimnet-bundle 2: export the bundle again"),
    "other labels": (lambda m: m["labels"].reverse(), "says something else in its metadata than model.json: slimnet.labels"),
    "other opset": (lambda m: m.update(opset=19), r"model.onnx has opset 20, model.json says 19"),
    "other input": (lambda m: m["inputs"][0].update(name="x"), r"model.onnx has inputs \[.*'input'"),
    "other accuracy": (lambda m: m["accuracy"].update(slim=0.9), "claims another accuracy than report.json"),
    "other cost": (lambda m: m["cost"].update(flops_ratio=9.0), "claims another cost than report.json"),
    "other size": (lambda m: m["precisions"]["int8"].update(bytes=1), r"`precisions` of model.json says 1"),
    "broken schema": (lambda m: m.pop("cost"), r"model.json breaks its schema at \$: 'cost' is a required property"),
    "a file not listed": (lambda m: m["files"].pop("infer.py"), "infer.py is not listed in model.json"),
    "files that are no table": (lambda m: m.update(files=[1]), "does not list model.onnx"),
    "a network not listed": (lambda m: m["files"].pop("model.onnx"), "does not list model.onnx"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_verify_finds(name, copied):
    edit, message = FAULTS[name]
    change(copied, edit)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(verify_bundle(copied, parity=False).faults))


def test_a_foreign_file_is_found(copied):
    (copied / "notes.txt").write_text("mine")
    assert verify_bundle(copied).faults == (
        f"{copied / 'notes.txt'} is not listed in model.json: it is no part of the bundle, take it out.",
    )


def test_all_faults_are_told_not_only_the_first(copied):
    (copied / "notes.txt").write_text("mine")
    (copied / "plan.json").unlink()
    change(copied, lambda m: m["labels"].pop(), seal=False)
    faults = "\n".join(verify_bundle(copied).faults)
    for message in ("notes.txt is not listed", "plan.json does not exist", "model.json is not the file that", "has 4 labels"):
        assert message in faults


def replaced(folder: Path, name: str, data: bytes) -> None:
    """Put another file in its place, with hashes and sizes as if it had been exported so."""
    (folder / name).write_bytes(data)

    def edit(model):
        model["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for entry in (*model["precisions"].values(), model["embedded"]):
            entry["bytes"] = len(data) if entry["file"] == name else entry["bytes"]

    change(folder, edit)


def shifted(path: Path, by: float) -> bytes:
    """The same ONNX file with another bias."""
    proto = onnx.load(path)
    bias = next(w for w in proto.graph.initializer if w.name == "linear.bias")
    value = onnx.numpy_helper.to_array(bias) + np.linspace(0, by, 5, dtype=np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(value, bias.name))
    return proto.SerializeToString(deterministic=True)


EXCHANGED = {
    "model.onnx": (1e-2, "model.onnx computes something else than slim.safetensors"),
    "model.int8.onnx": (-90.0, r"model.int8.onnx is unlike model.onnx: correlation -?0\.\d\d"),
    "model.uint8.onnx": (1e-2, "model.uint8.onnx computes something else than model.onnx"),
    "model.fp16.onnx": (float("nan"), "model.fp16.onnx does not give finite logits of 5 classes on random input"),
}


@pytest.mark.parametrize("name", EXCHANGED)
def test_parity_finds_a_network_that_computes_something_else(name, copied):
    by, message = EXCHANGED[name]
    replaced(copied, name, shifted(copied / name, by))
    assert verify_bundle(copied, parity=False).passed
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(verify_bundle(copied, trust_code=True).faults))


def test_verify_on_the_command_line(full, copied, capsys):
    assert _run(["verify", str(full.path), "--trust-code"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and "not looked at" not in printed.out
    assert _run(["verify", str(full.path), "--no-parity", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], told["faults"], told["skipped"]) == (True, [], ["parity", "precisions"])
    (copied / "infer.py").write_text("")
    (copied / "plan.json").unlink()
    assert _run(["verify", str(copied)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [line.startswith("slimnet: error: ") for line in printed.err.splitlines()] == [True, True]
    assert _run(["verify", str(copied.parent)]) == 1
    assert "is not a bundle: it holds no model.json" in capsys.readouterr().err
