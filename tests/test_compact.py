"""A compact bundle: one network, all that it takes to use it, and nothing else; and the ones that slimnet ships."""

from __future__ import annotations

import json
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions
from PIL import Image

import slimnet
import slimnet.ready
from slimnet.bundle.seal import sealed
from slimnet.commands import bench_bundle, export_compact, verify_bundle
from slimnet.commands.precisions import per_class
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.export import Bundle, compact_bundle, read_bundle
from slimnet.files import read_json
from slimnet.onnx.session import open_session
from slimnet.onnx.short import shortened
from slimnet.predict import Predictor
from slimnet.ready import ready_bundle, ready_names
from slimnet_cli import cli
from slimnet_cli._options import BundlePath
from web_bundle import LABELS, make_bundle

FILES = {"model.int8.onnx", "model.json", "config.json", "report.json", "MODEL_CARD.md", "infer.py"}


READY_BYTES = {
    "expressions": (500_000, 550_000),
    "expressions-base": (2_000_000, 2_000_000),
    "expressions-tiny": (90_000, 150_000),
    "expressions-votes": (500_000, 550_000),
}
"""The most that the network of a shipped bundle may weigh, and all of its files."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("whole") / "net", channels=1, size=(12, 12))


@pytest.fixture
def small(whole: Path, tmp_path: Path) -> Bundle:
    return compact_bundle(whole, tmp_path / "small", precision="int8")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)).save(path)
    return path


def edited(folder: Path, **changes: object) -> None:
    model = read_json(folder / "model.json")
    (folder / "model.json").write_bytes(sealed({**model, **changes}))


def test_one_network_and_what_describes_it(small: Bundle, whole: Path) -> None:
    assert {path.name for path in small.path.iterdir()} == FILES
    assert small.is_compact
    assert small.dense_onnx is None
    assert list(small.model["precisions"]) == ["int8"]
    entry = small.model["precisions"]["int8"]
    assert entry["bytes"] == small.onnx.stat().st_size < (whole / "model.int8.onnx").stat().st_size
    card = (small.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "model.int8.onnx" in card
    assert "`model.onnx`" not in card


def test_short_names_change_no_bit(small: Bundle, whole: Path) -> None:
    x = {"input": np.random.default_rng(0).normal(size=(3, 1, 12, 12)).astype(np.float32)}
    before, after = (open_session(path).run(x) for path in (whole / "model.int8.onnx", small.onnx))
    assert np.array_equal(before[0], after[0])
    assert [value.name for value in onnx.load(small.onnx).graph.output] == ["logits"]


def test_convolutions_stay_int8_without_zero_points(small: Bundle, whole: Path, tmp_path: Path) -> None:
    """ONNX Runtime makes the same integer operators of both files, and the small one holds fewer zero points."""
    operators, points = [], []
    for number, path in enumerate((whole / "model.int8.onnx", small.onnx)):
        options = SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{number}.onnx")
        options.log_severity_level = 3
        InferenceSession(path, options, providers=["CPUExecutionProvider"])
        operators.append(sorted(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node))
        points.append(sum(len(node.input) == 3 for node in onnx.load(path).graph.node if node.op_type == "DequantizeLinear"))
    assert operators[0] == operators[1]
    assert "QLinearConv" in operators[0]
    assert points[1] < points[0]


def whole_numbers(data: bytes) -> list[str]:
    """The biases that are whole numbers, with a scale."""
    net = onnx.load_from_string(data).graph
    found = {tensor.name for tensor in net.initializer if tensor.data_type == TensorProto.INT32}
    found |= {node.output[0] for node in net.node if node.op_type == "Constant"}
    return [node.input[0] for node in net.node if node.op_type == "DequantizeLinear" and node.input[0] in found]


def test_biases_are_plain_numbers_and_defaults_are_not_said(small: Bundle, whole: Path) -> None:
    assert whole_numbers((whole / "model.int8.onnx").read_bytes())
    assert not whole_numbers(small.onnx.read_bytes())
    said = [
        {attribute.name for attribute in node.attribute} for node in onnx.load(small.onnx).graph.node if node.op_type == "Conv"
    ]
    assert said == [{"kernel_shape", "pads"}]


@pytest.mark.parametrize("what", ["scale", "size", "reader", "behind", "constant", "point"])
def test_a_bias_that_would_change_stays(what: str, whole: Path) -> None:
    """Of another scale than ONNX Runtime would take, too large for float32, read elsewhere, of a layer whose output is read in
    float32, of a constant that is a node, or with a zero point."""
    proto = onnx.load(whole / "model.int8.onnx")
    held = {tensor.name: tensor for tensor in proto.graph.initializer}
    whole_number = whole_numbers(proto.SerializeToString())[0]
    bias = next(node for node in proto.graph.node if whole_number in node.input)
    numbers, scales = (numpy_helper.to_array(held[name]) for name in bias.input[:2])
    if what == "scale":
        held[bias.input[1]].CopyFrom(numpy_helper.from_array(scales * np.float32(1.5), bias.input[1]))
    elif what == "size":
        held[bias.input[0]].CopyFrom(numpy_helper.from_array(np.full_like(numbers, 2**23 + 1), bias.input[0]))
    elif what == "reader":
        proto.graph.output.append(helper.make_tensor_value_info(bias.output[0], TensorProto.FLOAT, numbers.shape))
    elif what == "behind":
        layer = next(node for node in proto.graph.node if bias.output[0] in node.input)
        proto.graph.output.append(
            helper.make_tensor_value_info(layer.output[0], TensorProto.FLOAT, list("NCHW" if layer.op_type == "Conv" else "NC"))
        )
    elif what == "point":
        held[bias.input[2]].CopyFrom(numpy_helper.from_array(np.ones_like(numbers), bias.input[2]))
    else:
        constant = helper.make_node("Constant", [], ["whole"], value=held[bias.input[0]])
        proto.graph.node.insert(0, constant)
        bias = next(node for node in proto.graph.node if node.output[0] == bias.output[0])
        bias.input[0] = "whole"
    before = proto.SerializeToString()
    after = shortened(before, "net")
    assert len(whole_numbers(after)) == 1 < len(whole_numbers(before))
    x = {"input": np.random.default_rng(0).normal(size=(3, 1, 12, 12)).astype(np.float32)}
    for one, other in zip(open_session(before).run(x), open_session(after).run(x), strict=True):
        assert np.array_equal(one, other)


def test_a_file_with_subgraphs_keeps_its_names() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["out"])],
        "one",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [2])],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["which"], ["logits"], then_branch=branch, else_branch=branch)],
        "net",
        [
            helper.make_tensor_value_info("which", TensorProto.BOOL, []),
            helper.make_tensor_value_info("input", TensorProto.FLOAT, [2]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [2])],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    assert shortened(data, "net") == data


def test_verify_runs_what_there_is(small: Bundle) -> None:
    report = verify_bundle(small.path)
    assert report.faults == ()
    assert report.skipped == ("parity",)


def test_any_precision_may_stay(whole: Path, tmp_path: Path) -> None:
    small = compact_bundle(whole, tmp_path / "fp32")
    assert small.onnx.name == "model.onnx", "the smallest: so small a network gains no bytes by int8"
    assert verify_bundle(small.path).passed
    with pytest.raises(ArgumentError, match="holds no fp16 network: it has fp32, int8"):
        compact_bundle(whole, tmp_path / "fp16", precision="fp16")
    assert not (tmp_path / "fp16").exists()


def test_same_answers_from_predict_and_infer(small: Bundle, whole: Path, picture: Path) -> None:
    (one,) = Predictor(small.path, top=len(LABELS)).predict([picture])
    (other,) = Predictor(whole, precision="int8", top=len(LABELS)).predict([picture])
    assert one == other
    assert Predictor(small.path, precision="auto").precision == "int8"
    with pytest.raises(FileFormatError, match="holds no fp32 network: it has int8"):
        Predictor(small.path, precision="fp32")
    done = subprocess.run([sys.executable, small.path / "infer.py", picture], capture_output=True, text=True, check=True)
    assert one.label in done.stdout.split("\t")[1]


def test_what_needs_the_rest_says_so(small: Bundle) -> None:
    with pytest.raises(ArgumentError, match="is compact: it holds no dense network"):
        bench_bundle(small.path)
    with pytest.raises(FileFormatError, match="is compact: it holds no weights for PyTorch"):
        slimnet.load_slim(small.path)


def test_it_is_no_bundle_without_its_mark(small: Bundle) -> None:
    model = read_json(small.path / "model.json")
    del model["compact"]
    (small.path / "model.json").write_bytes(sealed(model))
    with pytest.raises(FileFormatError, match=r"does not list model\.onnx"):
        read_bundle(small.path)
    assert any("'fp32' is a required property" in fault for fault in verify_bundle(small.path).faults)


def test_schema_allows_one_network_alone(small: Bundle) -> None:
    entry = small.model["precisions"]["int8"]
    edited(small.path, precisions={"int8": entry, "fp32": {**entry, "file": "model.onnx"}})
    assert any("precisions" in fault for fault in verify_bundle(small.path).faults)


def test_what_an_installer_leaves_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place where slimnet's own bundles are installed, and there alone; and only what comes of infer.py."""
    here, copy = tmp_path / "ready" / "expressions", tmp_path / "expressions"
    for folder in (here, copy):
        shutil.copytree(ready_bundle("expressions"), folder, ignore=shutil.ignore_patterns("__pycache__"))
        py_compile.compile(str(folder / "infer.py"))
    monkeypatch.setattr(slimnet.ready, "_HERE", here.parent)
    assert verify_bundle(here, parity=False).passed
    assert verify_bundle(copy, parity=False).faults == (
        f"{copy / '__pycache__'} is not listed in model.json: it is no part of the bundle, take it out.",
    )
    (here / "__pycache__" / "other.cpython-312.pyc").write_bytes(b"")
    assert "__pycache__ is not listed" in verify_bundle(here, parity=False).faults[0]


def test_embedded_preprocessing_is_not_dropped_in_silence(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="`embed_preprocessing` writes a second network"):
        export_compact(tmp_path / "run", tmp_path / "out", embed_preprocessing=True)


def test_damage_is_found(small: Bundle) -> None:
    data = bytearray(small.onnx.read_bytes())
    data[len(data) // 2] ^= 1
    small.onnx.write_bytes(bytes(data))
    with pytest.raises(FileFormatError, match="SHA-256 differs"):
        read_bundle(small.path)


def test_it_replaces_only_a_bundle(whole: Path, small: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="exists"):
        compact_bundle(whole, small.path)
    compact_bundle(whole, small.path, precision="fp32", force=True)
    assert not (small.path / "model.int8.onnx").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    with pytest.raises(ArgumentError, match=r"letter\.txt"):
        compact_bundle(whole, other, force=True)


def test_export_writes_it(tmp_path: Path) -> None:
    slimnet.train(model="resnet20", data="digits", method=slimnet.Dense(), epochs=1, out=tmp_path / "run", data_options={})
    command = ["export", str(tmp_path / "run"), "--out", str(tmp_path / "small"), "--compact", "--json"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["model"]["compact"] is True
    assert {path.name for path in (tmp_path / "small").iterdir()} == (FILES - {"model.int8.onnx"}) | {"model.onnx"}


def test_accuracy_of_each_class() -> None:
    assert per_class(np.array([0, 1, -1, 2]), np.array([0, 0, 2, 2]), 4) == [0.5, None, 0.5, None]


# --- shipped --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ready_names())
def test_shipped_bundles_are_good_and_small(name: str) -> None:
    folder = ready_bundle(name)
    assert verify_bundle(folder).faults == ()
    network, everything = READY_BYTES[name]
    assert read_bundle(folder).onnx.stat().st_size <= network
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) <= everything


def test_shipped_bundle_by_its_name(picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ready_names() == tuple(READY_BYTES)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["predict", "expressions", str(picture), "--json"])
    assert done.exit_code == 0, done.output
    (one,) = Predictor(ready_bundle("expressions")).predict([picture])
    assert json.loads(done.stdout)["predictions"][0]["top"][0]["label"] == one.label
    (tmp_path / "expressions").mkdir()
    assert BundlePath().convert("expressions", None, None) == ready_bundle("expressions"), (
        "a folder that is neither run nor bundle"
    )
    (tmp_path / "expressions" / "config.json").touch()
    assert BundlePath().convert("expressions", None, None) == Path("expressions")


@pytest.mark.parametrize("name", ready_names())
def test_shipped_weights_do_not_saturate_without_vnni(name: str) -> None:
    assert all(entry.get("reduce_range", True) for entry in read_bundle(ready_bundle(name)).model["precisions"].values())


def test_shipped_card_says_what_must_be_known() -> None:
    card = (ready_bundle("expressions") / "MODEL_CARD.md").read_text(encoding="utf-8")
    for words in ("FER2013", "Terms of the data", "accuracy, int8", "## Limits", "disgust"):
        assert words.lower() in card.lower()


def test_unknown_name() -> None:
    with pytest.raises(ArgumentError, match="ships no bundle 'cats'; it ships: expressions"):
        ready_bundle("cats")
