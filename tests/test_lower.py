"""Operators in older operator sets: the same numbers, or a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from slimnet.errors import ExportError
from slimnet.onnx.lower import CannotLowerError, lower, lowest
from slimnet.onnx.lower.changes import CHANGES
from slimnet.onnx.lower.driver import OLDEST, held_opset
from slimnet.onnx.lower.parts import OTHERWISE, PARTS
from slimnet.onnx.opset import with_opset

SHAPE = (2, 4, 6, 6)
UNKNOWN = {"Swish"}


def node(op: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs or ("x",), ["y"], name="it", **attributes)


def network(
    nodes: Sequence[onnx.NodeProto] | onnx.NodeProto,
    opset: int = 18,
    shape: Sequence[int | str] = SHAPE,
    element: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("y",),
    **constants: Any,
) -> onnx.ModelProto:
    """x in, y out."""
    nodes = [nodes] if isinstance(nodes, onnx.NodeProto) else list(nodes)
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info("x", element, shape)]
    graph = helper.make_graph(nodes, "g", ends, [helper.make_empty_tensor_value_info(name) for name in outputs], tensors)
    bare = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    known = onnx.shape_inference.infer_shapes(bare)
    assert all(value.type.tensor_type.elem_type for value in known.graph.output)
    return known


def ran(proto: onnx.ModelProto) -> list[Any]:
    """What ONNX Runtime makes of random numbers, or, of operators that it lacks, the reference evaluator."""
    feed = {"x": np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)}
    if held_opset(proto) > 22 or any(one.op_type in UNKNOWN for one in proto.graph.node):
        found: Any = ReferenceEvaluator(proto).run(None, feed)
        return list(found)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


ONES, AXES = np.array([1]), np.array([2, 3])
CASES: dict[str, list[tuple[onnx.ModelProto, int]]] = {
    **{name: [(network(node(name, "x", "a", keepdims=0), a=AXES), 11), (network(node(name)), 13)] for name in CHANGES
       if name.startswith("Reduce") and name != "ReduceLogSum"},
    "ReduceLogSum": [(network([helper.make_node("Abs", ["x"], ["p"]), node("ReduceLogSum", "p", "a")], a=AXES), 11)],
    "Squeeze": [(network([helper.make_node("ReduceMax", ["x", "a"], ["p"]), node("Squeeze", "p", "a")], a=AXES), 11)],
    "Unsqueeze": [(network(node("Unsqueeze", "x", "a"), a=np.array([0, -1])), 11)],
    "Split": [
        (network(helper.make_node("Split", ["x"], ["y", "z"], axis=1, num_outputs=2), outputs="yz"), 11),
        (network(helper.make_node("Split", ["x"], ["y", "z", "w", "v"], axis=2, num_outputs=4), outputs="yzwv"), 13),
        (network(helper.make_node("Split", ["x", "s"], ["y", "z"], axis=1), outputs="yz", s=np.array([1, 3])), 11),
    ],
    "Pad": [
        (network(node("Pad", "x", "w", "", "a"), w=np.array([1, 0, 0, 2]), a=np.array([1, -1])), 11),
        (network(node("Pad", "x", "w", "v"), w=np.array([0, 1, 0, 0, 0, 0, 1, 2]), v=np.float32(3)), 11),
    ],
    "Dropout": [(network(node("Dropout", "x", "r"), r=np.float32(0.3)), 11), (network(node("Dropout", seed=3)), 11)],
    "Resize": [
        (network(node("Resize", "x", "", "s", mode="nearest"), s=np.array([1, 1, 2, 2], np.float32)), 11),
        (network(node("Resize", "x", "", "", "s", mode="linear", antialias=0), s=np.array([2, 4, 9, 12])), 11),
        (network(node("Resize", "x", "", "s", axes=[2, 3], mode="nearest"), s=np.array([2, 3], np.float32)), 11),
        (network(node("Resize", "x", "", "s", mode="nearest"), opset=20, s=np.array([1, 1, 2, 2], np.float32)), 18),
    ],
    "Reshape": [(network(node("Reshape", "x", "s", allowzero=1), s=np.array([2, -1])), 11)],
    "Constant": [
        (network([helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2, 3, 4, 5, 6]), node("Add", "x", "c")]), 11),
        (network([helper.make_node("Constant", [], ["c"], value_float=2.5), node("Mul", "x", "c")]), 11),
    ],
    "QuantizeLinear": [(network(node("QuantizeLinear", "x", "s", "z", axis=1), s=np.float32(0.1), z=np.uint8(9)), 11)],
    "DequantizeLinear": [
        (
            network(
                [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", "q", "s", "z")],
                s=np.float32(0.1), z=np.uint8(9),
            ),
            11,
        )
    ],
    "CastLike": [(network(node("CastLike", "x", "s"), s=np.int64(1)), 11)],
    "GridSample": [(network(node("GridSample", "x", "g", mode="linear"), opset=20, g=np.zeros((2, 3, 3, 2), np.float32)), 16)],
    "Swish": [(network(node("Swish", alpha=1.5), opset=24), 11), (network(node("Swish"), opset=24), 23)],
    "Gelu": [(network(node("Gelu"), opset=20), 11), (network(node("Gelu", approximate="tanh"), opset=20), 19)],
    "Mish": [(network(node("Mish")), 11)],
    "LayerNormalization": [
        (network(node("LayerNormalization", "x", "s", "b", epsilon=0.1), s=np.float32(range(6)), b=np.float32(range(6))), 11),
        (network(node("LayerNormalization", "x", "s", axis=2), s=np.float32(range(36)).reshape(6, 6)), 16),
    ],
    "Shape": [(network(node("Shape")), 11), (network(node("Shape", start=1, end=-1)), 11), (network(node("Shape", start=2)), 14)],
    "HardSwish": [(network(node("HardSwish")), 11)],
    "Softmax": [(network(node("Softmax")), 11), (network(node("Softmax", axis=1)), 12)],
    "LogSoftmax": [(network(node("LogSoftmax", axis=-2)), 11)],
    "Hardmax": [(network(node("Hardmax", axis=2)), 11)],
    "Celu": [(network(node("Celu", alpha=2.0)), 11)],
    "GreaterOrEqual": [(network(node("GreaterOrEqual", "x", "c"), c=np.float32(0.5)), 11)],
    "LessOrEqual": [(network(node("LessOrEqual", "x", "c"), c=np.float32(0.5)), 11)],
    "types and defaults alone": [
        (network([helper.make_node("Relu", ["x"], ["p"]), node("Add", "p", "c")], c=np.float32(0.5)), 11),
        (network(node("Clip", "x", "a", "b"), a=np.float32(-1), b=np.float32(1)), 11),
        (network(node("AveragePool", kernel_shape=[2, 2], dilations=[1, 1]), opset=20), 11),
        (network(node("Cast", to=TensorProto.INT64, saturate=1), opset=20), 11),
        (
            network(node("BatchNormalization", "x", "s", "s", "s", "s", training_mode=0), s=np.float32([1, 2, 3, 4])),
            11,
        ),
        (network(node("ArgMax", axis=1, select_last_index=0)), 11),
        (network(node("Gather", "x", "i", axis=1), opset=21, i=np.array([3, 0])), 11),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers(name: str) -> None:
    for proto, wanted in CASES[name]:
        right, held = ran(proto), held_opset(proto)
        assert held > wanted
        old = lower(onnx.ModelProto.FromString(proto.SerializeToString()), wanted)
        old.graph.ClearField("value_info")
        onnx.checker.check_model(old, full_check=True)
        assert held_opset(old) == wanted
        assert [value.name for value in old.graph.output] == [value.name for value in proto.graph.output]
        for one, other in zip(right, ran(old), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_every_operator_of_the_tables_has_a_case() -> None:
    assert CHANGES.keys() | PARTS.keys() <= CASES.keys()
    assert not CHANGES.keys() & PARTS.keys() and not OTHERWISE.keys() & (CHANGES.keys() | PARTS.keys())


@pytest.mark.parametrize("op", sorted(CHANGES.keys() | PARTS.keys()))
def test_every_entry_is_about_a_version_that_there_is(op: str) -> None:
    entries = [since for since, _ in CHANGES.get(op, ())] + [since for name, (since, _) in PARTS.items() if name == op]
    versions = {each.since_version for each in onnx.defs.get_all_schemas_with_history() if (each.name, each.domain) == (op, "")}
    assert set(entries) <= versions
    assert entries == sorted(entries, reverse=True)
    assert min(entries) > OLDEST


COMPUTED = helper.make_node("Shape", ["x"], ["c"])
REFUSED: dict[str, tuple[onnx.ModelProto, int, str, int]] = {
    "absent": (network(node("BitwiseNot"), element=TensorProto.UINT8), 17, r"'it' does not exist below opset 18", 18),
    "attribute": (network(node("GatherND", "x", "i", batch_dims=1), i=np.zeros((2, 1), np.int64)), 11, "batch_dims=1", 12),
    "antialias": (network(node("Resize", "x", "", "s", antialias=1, mode="linear"), s=np.array([1, 1, 2, 2], np.float32)), 17,
                  "antialias=1", 18),
    "type": (network(node("Clip", "x", "a"), element=TensorProto.INT64, a=np.int64(0)), 11, r"is of tensor\(int64\)", 12),
    "axes": (network([COMPUTED, node("ReduceMean", "x", "c")]), 17, "has axes that are computed", 18),
    "pieces": (network(helper.make_node("Split", ["x"], ["y", "z"], name="it", axis=2, num_outputs=2), outputs="yz",
                       shape=(2, 4, "h", 6)), 17, "along an axis of open length", 18),
    "wrap": (network(node("Pad", "x", "w", mode="wrap"), opset=20, w=np.array([0, 1, 0, 0, 0, 0, 1, 2])), 18, "wraps around", 19),
    "scales": (network([helper.make_node("QuantizeLinear", ["x", "s"], ["q"]), node("DequantizeLinear", "q", "s")],
                       s=np.ones(4, np.float32)), 12, "has a scale for each channel", 13),
    "zeros": (network(node("Reshape", "x", "s", allowzero=1), s=np.array([0, 4, 3]), shape=(0, 4, 6, 6)), 13, "allowzero=1", 14),
    "training": (network(node("Dropout", "x", "r", "t"), r=np.float32(0.3), t=np.bool_(True)), 11, "drops something", 12),
    "meaning": (network(node("RoiAlign", "x", "r", "b"), r=np.zeros((1, 4), np.float32), b=np.zeros(1, np.int64)), 15,
                "computes something else below opset 16", 16),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_older_versions_cannot_say_is_refused_with_the_lowest_that_can(name: str) -> None:
    proto, wanted, reason, least = REFUSED[name]
    before = proto.SerializeToString(deterministic=True)
    with pytest.raises(CannotLowerError, match=reason):
        lower(proto, wanted)
    assert proto.SerializeToString(deterministic=True) == before
    assert lowest(proto)[0] == least
    with pytest.raises(ExportError, match=rf"^opset {wanted} is not to be had: .*{reason}.* The lowest possible is {least}"):
        with_opset(proto, wanted)


def test_constants_that_nobody_reads_any_more_go() -> None:
    proto = lower(network(node("ReduceMean", "x", "a"), a=AXES), 13)
    assert not proto.graph.initializer
    shared = network([helper.make_node("ReduceMean", ["x", "a"], ["p"]), node("Gather", "p", "a", axis=1)], a=AXES)
    assert [tensor.name for tensor in lower(shared, 13).graph.initializer] == ["a"]


def test_functions_stand_where_they_are_called() -> None:
    body = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("HardSwish", ["a"], ["b"])],
                                [helper.make_opsetid("", 18)])  # fmt: skip
    graph = network(node("HardSwish")).graph
    graph.node[0].op_type, graph.node[0].domain = "F", "own"
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    proto = helper.make_model(graph, opset_imports=sets, functions=[body], ir_version=10)
    right = ran(proto)
    old = lower(proto, 11)
    assert [one.op_type for one in old.graph.node] == ["HardSigmoid", "Mul"]
    np.testing.assert_allclose(right[0], ran(old)[0], rtol=1e-5, atol=1e-6)


def test_graphs_within_nodes_are_lowered_too() -> None:
    branch = {
        name: helper.make_graph([helper.make_node(op, ["x"], ["r"])], name, [], [helper.make_empty_tensor_value_info("r")])
        for name, op in (("then_branch", "HardSwish"), ("else_branch", "Relu"))
    }
    proto = network(node("If", "c", **branch), c=np.bool_(True))
    right = ran(proto)
    old = lower(proto, 11)
    assert [one.op_type for one in old.graph.node[0].attribute[0].g.node] in (["HardSigmoid", "Mul"], ["Relu"])
    np.testing.assert_allclose(right[0], ran(old)[0], rtol=1e-5, atol=1e-6)
