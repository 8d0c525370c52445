"""The surgeon on ONNX files: what it cuts, what it keeps, and what it refuses."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import slimnet
from onnx_nets import CONV, CONV_WEIGHTS, GONE, HEAD, HEAD_WEIGHTS, model, plain, random, shapes
from slimnet.onnx_surgery import OnnxSlimResult

LEFT = 8 - len(GONE)


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: x})[0]
    return found


def slimmed(proto: onnx.ModelProto, *, size: int = 8) -> OnnxSlimResult:
    """What is left, once it is checked by ONNX Runtime here."""
    result = slimnet.slim(proto, image_size=size)
    x = np.random.default_rng(1).standard_normal((1, 3, size, size)).astype(np.float32)
    np.testing.assert_allclose(run(result.model, x), run(proto, x), 1e-5, 1e-6)
    onnx.checker.check_model(result.model, full_check=True)
    return result


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21])
def test_zero_filters_go_and_everything_else_is_kept(opset: int) -> None:
    before = plain(opset)
    result = slimmed(before)
    after = result.model
    assert shapes(after) == {"w": (LEFT, 3, 3, 3), "b": (LEFT,), "v": (5, LEFT), "u": (5,)}
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node]
    assert (after.opset_import, after.metadata_props) == (before.opset_import, before.metadata_props)
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    assert result.report.verification.worst <= 1e-9
    assert {check.what for check in result.report.verification.checks} == {"plan", "stored", "file", "float64"}


def test_a_file_is_compared_at_other_sizes_where_it_takes_them() -> None:
    """One of them divides by nothing, where a graph may pad."""
    of_any = plain()
    for dim, name in zip(of_any.graph.input[0].type.tensor_type.shape.dim[2:], "hw", strict=True):
        dim.dim_param = name
    checks = slimmed(of_any).report.verification.checks
    assert [(check.inputs, check.shape[2:]) for check in checks if check.what == "file"] == [
        ("given", (8, 8)),
        ("batch", (8, 8)),
        ("size", (12, 12)),
        ("uneven size", (11, 13)),
    ]


def test_the_file_itself_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    onnx.save(plain(), path)
    before = path.read_bytes()
    result = slimnet.slim(path, image_size=8)
    result.save(tmp_path / "b.onnx")
    assert path.read_bytes() == before
    assert shapes(onnx.load(tmp_path / "b.onnx"))["w"] == (LEFT, 3, 3, 3)


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    onnx.save(plain(), tmp_path / "a.onnx", save_as_external_data=True, size_threshold=0, location="a.data")
    assert shapes(slimnet.slim(tmp_path / "a.onnx", image_size=8).model)["w"] == (LEFT, 3, 3, 3)


BODIES = {
    "weights of Constant nodes": (
        """c0 = Constant <value = float[8] {1, 0, 1, 1, 0, 1, 0, 1}> ()
        shape = Constant <value = int64[4] {1, 8, 1, 1}> ()
        g = Reshape (c0, shape)
        c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
        m = Mul (c, g)
        r = Relu (m)"""
        + HEAD,
        {"w": random(8, 3, 3, 3), "b": random(8)},
    ),
    "a norm that is not folded": (
        """c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)
        n = BatchNormalization (c, gamma, beta, mean, var)
        r = Relu (n)"""
        + HEAD,
        {
            "w": random(8, 3, 3, 3, zero=GONE),
            **{name: random(8, seed=i, zero=GONE) for i, name in enumerate(("gamma", "beta"))},
            "mean": random(8),
            "var": np.abs(random(8)) + 0.5,
        },
    ),
    "padding apart": (
        """pads = Constant <value = int64[8] {0, 0, 1, 1, 0, 0, 1, 1}> ()
        q = Pad (x, pads)
        c = Conv <kernel_shape = [3, 3]> (q, w, b)
        r = Relu (c)"""
        + HEAD,
        CONV_WEIGHTS,
    ),
    "automatic padding": (
        """c = Conv <kernel_shape = [3, 3], auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w, b)
        r = Relu (c)"""
        + HEAD,
        CONV_WEIGHTS,
    ),
    "a shape that is computed": (
        CONV
        + """p = GlobalAveragePool (r)
        s = Shape (p)
        zero = Constant <value = int64 {0}> ()
        n = Gather (s, zero)
        axes = Constant <value = int64[1] {0}> ()
        n1 = Unsqueeze (n, axes)
        eight = Constant <value = int64[1] {8}> ()
        wanted = Concat <axis = 0> (n1, eight)
        f = Reshape (p, wanted)
        y = Gemm <transB = 1> (f, v, u)""",
        CONV_WEIGHTS,
    ),
    "a shape that counts channels": (
        CONV
        + """p = GlobalAveragePool (r)
        wanted = Constant <value = int64[2] {-1, 8}> ()
        f = Reshape (p, wanted)
        y = Gemm <transB = 1> (f, v, u)""",
        CONV_WEIGHTS,
    ),
    "channels last": (
        CONV
        + """p = GlobalAveragePool (r)
        t = Transpose <perm = [0, 2, 3, 1]> (p)
        f = Flatten (t)
        h = MatMul (f, vt)
        y = Add (h, u)""",
        CONV_WEIGHTS | {"vt": random(8, 5)},
    ),
    "a linear layer that scales": (
        CONV
        + """p = GlobalAveragePool (r)
        f = Flatten (p)
        y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (f, v, u)""",
        CONV_WEIGHTS,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_exporters_write(name: str) -> None:
    body, weights = BODIES[name]
    result = slimmed(model(body, HEAD_WEIGHTS | weights))
    assert [len(group.kept) for group in result.plan.groups if group.size == 8] == [LEFT], result.plan.groups


def test_depthwise_and_grouped_convolutions() -> None:
    body = (
        CONV
        + """d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8> (r, wd)
        e = Relu (d)
        g = Conv <kernel_shape = [1, 1], group = 2> (e, wg)
        r2 = Relu (g)
        p = GlobalAveragePool (r2)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, v, u)"""
    )
    weights = CONV_WEIGHTS | HEAD_WEIGHTS | {"wd": random(8, 1, 3, 3, zero=GONE), "wg": random(8, 4, 1, 1, zero=(4, 5, 6, 7))}
    result = slimmed(model(body, weights))
    nodes = result.model.graph.node
    groups = {node.output[0]: item.i for node in nodes for item in node.attribute if item.name == "group"}
    assert groups == {"d": 4, "g": 1}  # half of the grouped layer goes as a whole, and with it what it alone reads


def test_an_option_a_shortcut_is_padded_with_fewer_channels() -> None:
    body = (
        CONV
        + """pads = Constant <value = int64[8] {0, 2, 0, 0, 0, 2, 0, 0}> ()
        q = Pad (r, pads)
        c2 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r, w2)
        s = Add (q, c2)
        r2 = Relu (s)
        p = GlobalAveragePool (r2)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, v, u)"""
    )
    gone = (0, *(2 + place for place in GONE))  # in the wider stream: one of the zeros in front, and what goes before
    weights = CONV_WEIGHTS | {"w2": random(12, 8, 3, 3, zero=gone), "v": random(5, 12), "u": random(5)}
    result = slimmed(model(body, weights))
    assert shapes(result.model)["w2"] == (12 - len(gone), LEFT, 3, 3)
    pads = next(tensor for tensor in result.model.graph.initializer if tensor.name == "pads")
    assert onnx.numpy_helper.to_array(pads).tolist() == [0, 1, 0, 0, 0, 2, 0, 0]


def test_constants_of_closed_channels_go_into_a_bias() -> None:
    """A channel that is zero before a norm with a shift is not zero behind it."""
    body = """c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)
        n = Add (c, shift)
        p = GlobalAveragePool (n)
        f = Flatten (p)
        y = MatMul (f, vt)"""
    weights = {"w": random(8, 3, 3, 3, zero=GONE), "shift": random(8, 1, 1), "vt": random(8, 5)}
    result = slimmed(model(body, weights))
    assert shapes(result.model)["w"] == (LEFT, 3, 3, 3)
    assert [node.op_type for node in result.model.graph.node][-2:] == ["MatMul", "Add"]
    assert result.model.graph.output[0].name == "y"


def test_a_branch_of_zeros_is_shut() -> None:
    body = (
        CONV
        + """c2 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r, w2)
        r2 = Relu (c2)
        c3 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r2, w3)
        s = Add (r, c3)
        p = GlobalAveragePool (s)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, v, u)"""
    )
    weights = CONV_WEIGHTS | HEAD_WEIGHTS | {"w2": random(8, 8, 3, 3), "w3": np.zeros((8, 8, 3, 3), np.float32)}
    result = slimmed(model(body, weights))
    assert [node.op_type for node in result.model.graph.node].count("Conv") == 1


def test_a_weight_that_two_nodes_share_is_cut_for_each() -> None:
    body = (
        """c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
        a = Relu (c)
        d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a, w2)
        e = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (d, w2)
        r = Relu (e)"""
        + HEAD
    )
    weights = CONV_WEIGHTS | HEAD_WEIGHTS | {"w2": random(8, 8, 3, 3, zero=(0,))}
    result = slimmed(model(body, weights))
    found = sorted(shape for name, shape in shapes(result.model).items() if name.startswith("w2"))
    assert found == [(7, LEFT, 3, 3), (7, 7, 3, 3)]


def test_a_weight_that_is_an_output_too_stays_what_it_was() -> None:
    proto = plain()
    proto.graph.output.append(onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [8]))
    result = slimmed(proto)
    assert shapes(result.model)["b"] == (8,)
    assert (LEFT,) in shapes(result.model).values()


def test_initializers_that_are_inputs_too() -> None:
    proto = plain(11)
    for tensor in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    result = slimmed(proto)
    assert {value.name for value in result.model.graph.input} == {"x", "w", "b", "v", "u"}


def test_what_is_not_followed_stays_and_the_rest_is_cut() -> None:
    body = CONV + HEAD.replace("y = Gemm", "z = Gemm") + "k = Constant <value = int64[1] {3}> () y, i = TopK (z, k)"
    result = slimmed(model(body, CONV_WEIGHTS | HEAD_WEIGHTS))
    assert shapes(result.model)["w"] == (LEFT, 3, 3, 3)
    assert result.beyond == {"TopK (y)": "an operator that slimnet does not know"}


def test_a_tolerance_zeroes_small_filters_first() -> None:
    weights = {name: array.copy() for name, array in CONV_WEIGHTS.items()}
    weights["w"][list(GONE)] = 1e-7
    proto = model(CONV + HEAD, weights | HEAD_WEIGHTS)
    assert shapes(slimnet.slim(proto, image_size=8).model)["w"] == (8, 3, 3, 3)
    result = slimnet.slim(proto, image_size=8, tolerance=1e-3)
    assert result.report.zeroed == len(GONE)
    assert shapes(result.model)["w"] == (LEFT, 3, 3, 3)


def test_alignment_keeps_closed_channels() -> None:
    assert shapes(slimnet.slim(plain(), image_size=8, align=8).model)["w"] == (8, 3, 3, 3)


def test_the_same_network_loses_the_same_channels_through_its_onnx_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = slimnet.build_model("resnet8", num_classes=10).eval()
    x = torch.randn(2, 3, 16, 16)
    slimnet.prune(network, x, rate=0.4)
    for name, training in (("folded", torch.onnx.TrainingMode.EVAL), ("unfolded", torch.onnx.TrainingMode.PRESERVE)):
        path = tmp_path / f"{name}.onnx"
        with warnings.catch_warnings():  # the exporter's own
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (x,), path, dynamo=False, opset_version=13, training=training)
        expected = slimnet.slim(network, x)
        result = slimnet.slim(path)
        kept = [list(group.kept) for group in expected.plan.groups]
        assert [list(group.kept) for group in result.plan.groups] == kept
        assert sum(len(group) for group in kept) < sum(group.size for group in expected.plan.groups)
        assert slimnet.count(result.network, x).flops == slimnet.count(expected.model, x).flops
