"""What the surgeon refuses of ONNX files, and what it finds before anything is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import slimnet
from onnx_nets import CONV, CONV_WEIGHTS, HEAD, HEAD_WEIGHTS, model, plain, random, shapes
from slimnet.errors import ArgumentError, FileFormatError, GraphError, VerificationError
from slimnet.onnx import program
from slimnet.onnx_surgery import layers, read_onnx, slimming
from slimnet.onnx_surgery.operators import FUNCTIONS
from test_onnx_surgery import LEFT, slimmed


def test_a_quantised_file_is_refused() -> None:
    body = "s = Constant <value = float {0.1}> () z = Constant <value = uint8 {0}> () q = QuantizeLinear (x, s, z) "
    body += "d = DequantizeLinear (q, s, z) p = GlobalAveragePool (d) y = Flatten (p)"
    with pytest.raises(GraphError, match=r"is quantised \(QuantizeLinear\): give the floating-point file"):
        slimnet.slim(model(body, {}))


def test_an_old_opset_is_refused() -> None:
    proto = plain()
    proto.opset_import[0].version = 6
    with pytest.raises(FileFormatError, match="is of opset 6, at least 7 is read"):
        slimnet.slim(proto)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(FileFormatError, match=r"x.onnx is not a readable ONNX file"):
        slimnet.slim(tmp_path / "x.onnx")


def test_a_node_that_reads_what_nobody_makes_is_refused() -> None:
    proto = plain()
    del proto.graph.initializer[:1]
    with pytest.raises(FileFormatError, match="reads 'w', which no node before it makes"):
        slimnet.slim(proto)


def test_a_file_without_anything_to_follow_is_refused() -> None:
    body = "k = Constant <value = int64[1] {3}> () y, i = TopK (x, k)"
    with pytest.raises(GraphError, match=r"nothing of the ONNX model can be followed \(TopK \(y\): an operator"):
        slimnet.slim(model(body, {}))


def test_a_size_that_does_not_fit_asks_for_another() -> None:
    weights = CONV_WEIGHTS | {"big": random(5, 512), "u": random(5)}
    proto = model(CONV + "f = Flatten (r) y = Gemm <transB = 1> (f, big, u)", weights, inputs="float[N, 3, H, W] x")
    with pytest.raises(GraphError, match=r"does not run on inputs of shape \(2, 3, 224, 224\).*image_size"):
        slimnet.slim(proto)
    assert shapes(slimnet.slim(proto, image_size=8).model)["w"] == (LEFT, 3, 3, 3)


def test_a_module_needs_example_inputs() -> None:
    with pytest.raises(ArgumentError, match="`example_inputs` is missing"):
        slimnet.slim(torch.nn.Linear(2, 2))  # type: ignore[call-overload]


def test_what_is_read_wrongly_is_found_before_anything_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FUNCTIONS, "Relu", lambda op, opset: torch.tanh)
    with pytest.raises(GraphError, match=r"was read wrongly: 'y' differs by .* from what ONNX Runtime computes"):
        slimnet.slim(plain(), image_size=8)


def test_what_is_written_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = layers.Origin.written
    monkeypatch.setattr(layers.Origin, "written", lambda self, tensor: right(self, tensor) * 1.01)
    with pytest.raises(VerificationError, match="the slim file computes something else"):
        slimnet.slim(plain(), image_size=8)


def test_infinities_and_shapes_are_compared() -> None:
    one, inf = np.ones(2), np.array([1.0, np.inf])
    assert slimming.relative(inf, inf) == 0
    assert slimming.relative(one, inf) == np.inf
    assert np.isnan(slimming.relative(one, np.ones(3)))
    assert slimming.relative(one * 1.5, one) == 0.5


def test_a_cast_keeps_the_networks_kind_of_numbers() -> None:
    body = CONV.replace("r = Relu (c)", "r0 = Relu (c) r = Cast <to = 1> (r0)") + HEAD
    network = read_onnx(model(body, CONV_WEIGHTS | HEAD_WEIGHTS), image_size=8).model.double()
    assert network(torch.randn(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


ONE = "c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)"
LARGE = {
    "of a constant": "n = Constant <value = int64[2] {100000, 100000}> () z = ConstantOfShape (n)",
    "of one number": "n = Constant <value = int64[2] {100000, 100000}> () k = Constant <value = float {1}> () z = Expand (k, n)",
    "of the picture's shape": "s = Shape (c) q = Constant <value = int64[4] {1, 1, 10000, 10000}> () n = Mul (s, q) "
    "z = ConstantOfShape (n)",
}


@pytest.mark.parametrize("name", LARGE)
def test_a_few_bytes_do_not_make_gigabytes(name: str) -> None:
    body = f"{ONE} {LARGE[name]} m = ReduceMean <keepdims = 0> (z) r = Add (c, m) {HEAD}"
    with pytest.raises(
        (FileFormatError, GraphError), match=r"node 'z' \(\w+\) makes a constant of [\d,]+ values or more: it is not computed"
    ):
        slimnet.slim(model(body, CONV_WEIGHTS | HEAD_WEIGHTS))


def test_constants_of_constants_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    doubled = " ".join(f"k{i + 1} = Concat <axis = 0> (k{i}, k{i})" for i in range(28))  # a file of 2 KB
    body = f"{ONE} k0 = Constant <value = float[2] {{1, 2}}> () {doubled} m = ReduceMean (k28) r = Add (c, m) {HEAD}"
    monkeypatch.setattr(program, "MAX_GIVEN", 1024)
    with pytest.raises(FileFormatError, match=r"computes constants of more than 1,024 values"):
        slimnet.slim(model(body, CONV_WEIGHTS | HEAD_WEIGHTS))


@pytest.mark.parametrize("name", ["outputs", "forward", "places", "training"])
def test_a_node_may_have_any_name(name: str) -> None:
    proto = plain()
    proto.graph.node[0].name = name
    assert shapes(slimmed(proto).model)["w"] == (LEFT, 3, 3, 3)


def test_an_instance_norm_of_one_channel_is_read() -> None:
    body = "f = ReduceMean <axes = [1]> (x) y = InstanceNormalization (f, k, k)"
    assert not read_onnx(model(body, {"k": random(1)}), image_size=8).model.beyond


HUGE = {
    "tile": "t = Constant <value = int64[4] {1, 1, 20000, 20000}> () z = Tile (c, t)",
    "pad": "p0 = Constant <value = int64[8] {0, 0, 0, 0, 0, 0, 100000, 100000}> () z = Pad (c, p0)",
    "resize": 's = Constant <value = float[4] {1, 1, 20000, 20000}> () z = Resize <mode = "nearest", '
    'coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (c, , s)',
}


@pytest.mark.parametrize("name", HUGE)
def test_a_few_bytes_do_not_make_huge_activations(name: str) -> None:
    body = f"{ONE} {HUGE[name]} r = Relu (z) {HEAD}"
    with pytest.raises(FileFormatError, match=r"node 'z' \(\w+\) makes a tensor of [\d,]+ values: at most"):
        slimnet.slim(model(body, CONV_WEIGHTS | HEAD_WEIGHTS))


def test_a_pool_that_rounds_up_behind_uneven_padding_is_not_followed() -> None:
    pool = "z = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1], ceil_mode = 1> (c)"
    result = slimnet.slim(model(f"{ONE} {pool} r = Relu (z) {HEAD}", CONV_WEIGHTS | HEAD_WEIGHTS))
    assert result.beyond == {"MaxPool (z)": "a pool that rounds up behind uneven padding"}


def test_an_empty_model_is_no_network() -> None:
    with pytest.raises(FileFormatError, match="holds no network: it has no nodes"):
        slimnet.slim(b"")


def test_a_wrong_second_batch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What agrees on the inputs given, and on no others."""
    right, seen = slimming._run, []

    def run(data: bytes, reading: object, inputs: object) -> list[np.ndarray]:
        found = right(data, reading, inputs)  # type: ignore[arg-type]
        seen.append(tuple(inputs[0].shape))  # type: ignore[index]
        return [array + 1 for array in found] if seen.count((3, 3, 8, 8)) == 2 and seen[-1][0] == 3 else found

    monkeypatch.setattr(slimming, "_run", run)
    with pytest.raises(VerificationError, match="batch inputs"):
        slimnet.slim(plain())


def test_what_a_condition_reads_from_outside_stays() -> None:
    """A graph within a node reads a value that nothing else does."""
    proto = plain()
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["z"], ["in"])], "g", [], [onnx.helper.make_empty_tensor_value_info("in")]
    )
    proto.graph.node[-1].output[0] = "z"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    proto.graph.node.append(onnx.helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner))
    result = slimmed(proto)
    assert shapes(result.model)["w"] == (LEFT, 3, 3, 3)


def test_a_size_that_the_file_does_not_take_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"takes inputs of shape \(N, 3, 8, 8\): leave --image-size .* out, it says 16"):
        slimnet.slim(plain(), image_size=16)
