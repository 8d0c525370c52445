"""Steps on the exported graph: each acts where it should, and changes nothing that is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from slimnet.export.steps import STEPS

BY_NAME = {step.name: step for step in STEPS}
FAR = np.iinfo(np.int64).max


def graph(nodes: list[onnx.NodeProto], opset: int = 20, size: int | str = 8, **constants: np.ndarray) -> bytes:
    """A network from (N, 4, 8, 8) images ``x`` to ``y``."""
    names = {name: np.asarray(array) for name, array in constants.items()}
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, size, size])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in names.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=9,
    )
    return onnx.shape_inference.infer_shapes(proto, data_prop=True).SerializeToString(deterministic=True)


def node(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=f"make_{output}", **attributes)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def run(data: bytes, batch: int = 3) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).standard_normal((batch, *session.get_inputs()[0].shape[1:])).astype(np.float32)
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def operators(data: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


NORM = {"g": floats(4) ** 2, "b": floats(4), "m": floats(4), "v": floats(4) ** 2 + 1, "w": floats(4, 4, 3, 3)}
SKIP = {"zero": ints(0, 0), "far": ints(FAR, FAR), "places": ints(2, 3), "two": ints(2, 2)}
PADS = {"pads": ints(0, 2, 0, 0, 0, 1, 0, 0)}


def expanded(index: np.ndarray, *, zero: float = 0.0) -> bytes:
    """A convolution with 4 live channels and its zeros, as the surgeon's ``expand`` is exported; added to a stream."""
    return graph(
        [
            node("Conv", "x w bias", "live", pads=[1, 1, 1, 1]),
            node("Slice", "live c0 c1 c1 c1", "first"),
            node("Shape", "first", "shape"),
            node("Expand", "nought shape", "zeros"),
            node("Concat", "live zeros", "both", axis=1),
            node("Gather", "both index", "all", axis=1),
            node("Conv", "x stream", "wide"),
            node("Add", "all wide", "y"),
        ],
        w=floats(4, 4, 3, 3),
        bias=floats(4),
        c0=ints(0),
        c1=ints(1),
        nought=np.array(zero, np.float32),
        index=index,
        stream=floats(len(index), 4, 1, 1),
    )


def shortcut(*pads: int, value: float = 0.0, ends: int = FAR, kernel: int = 1) -> bytes:
    """A shortcut beside a convolution; the larger its kernel, the less the shortcut counts."""
    return graph(
        [
            node("Slice", "x none end two_axis step", "rows"),
            node("Slice", "rows none end three_axis step", "places"),
            node("Pad", "places pads value", "short"),
            node("Conv", "x w", "conv", strides=[2, 2], pads=[kernel // 2] * 4),
            node("Add", "conv short", "y"),
        ],
        none=ints(0),
        end=ints(ends),
        two_axis=ints(2),
        three_axis=ints(3),
        step=ints(2),
        pads=ints(*pads),
        value=np.array(value, np.float32),
        w=floats(4 + pads[1] + pads[5], 4, *(kernel if ends == FAR else 3,) * 2),
    )


def stream(*signs: int, read: bool = False) -> bytes:
    """A residual block, then branches that add constants of these signs (0: all zeros), then a convolution."""
    constants = {f"c{i}": np.sign(sign) * np.abs(sign + floats(1, 4, 1, 1)) for i, sign in enumerate(signs)}
    mixed = {
        name: np.where(np.arange(4).reshape(1, 4, 1, 1) < 3, c, -c) if signs == (1, -1) else c for name, c in constants.items()
    }
    rows = [
        node("Conv", "x first bias", "conv", pads=[1, 1, 1, 1]),
        node("Conv", "x second bias", "side"),
        node("Add", "conv side", "sum"),
        node("Relu", "sum", "relu0"),
    ]
    for i in range(len(signs)):
        rows += [node("Add", f"c{i} relu{i}", f"add{i}"), node("Relu", f"add{i}", f"relu{i + 1}")]
    last = (
        node("Add", f"relu0 relu{len(signs)}", "seen")
        if read
        else node("Conv", f"relu{len(signs)} third", "y", pads=[1, 1, 1, 1])
    )
    more = [node("Conv", "seen third", "y", pads=[1, 1, 1, 1])] if read else []
    weights = {"first": floats(4, 4, 3, 3), "second": floats(4, 4, 1, 1), "third": floats(4, 4, 3, 3), "bias": floats(4)}
    return graph([*rows, last, *more], **weights, **{name: c.astype(np.float32) for name, c in mixed.items()})


def pooled(size: int, reads: np.ndarray, last: str = "Reshape") -> bytes:
    """A map whose places are each read several times by a linear layer."""
    features = 4 * reads.shape[0] * reads.shape[1]
    return graph(
        [
            node("Transpose", "x", "turned", perm=[2, 3, 0, 1]),
            node("GatherND", "turned reads", "read"),
            node("Transpose", "read", "back", perm=[2, 3, 0, 1]),
            node(last, "back", "active") if last == "Relu" else node("Mul", "back half", "active"),
            node("Reshape", "active flat", "rows"),
            node("Gemm", "rows w b", "y", transB=1),
        ],
        size=size,
        reads=reads,
        half=np.array(0.5, np.float32),
        flat=ints(-1, features),
        w=floats(5, features),
        b=floats(5),
    )


def repeated(size: int, times: int) -> np.ndarray:
    """(size · times, size · times, 2): each place ``times``² times."""
    places = np.arange(size * times) // times
    return np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1)


SPARSE = ints(0, 4, 1, 4, 4, 2, 3, 4)
FIRST = ints(0, 1, 2, 3, 4, 4, 4, 4)

# a graph, the step that must act on it, in how many places, and the operators that are left
ACTS: dict[str, tuple[Callable[[], bytes], str, int, dict[str, int]]] = {
    "a norm behind a convolution": (
        lambda: graph([node("Conv", "x w", "c"), node("BatchNormalization", "c g b m v", "y")], **NORM),
        "fold",
        1,
        {"Conv": 1},
    ),
    "nodes that do nothing": (
        lambda: graph([node("Identity", "x", "i"), node("Add", "i none", "z"), node("Relu", "z", "y")], none=np.float32(0)),
        "fold",
        2,
        {"Relu": 1},
    ),
    "constants": (
        lambda: graph([node("Add", "a a", "s"), node("Mul", "x s", "y")], a=np.float32(3)),
        "fold",
        1,
        {"Mul": 1},
    ),
    "a mean over places": (
        lambda: graph([node("ReduceMean", "x axes", "y", keepdims=1)], axes=ints(-1, -2)),
        "global-pool",
        1,
        {"GlobalAveragePool": 1},
    ),
    "a mean, axes as an attribute": (
        lambda: graph([node("ReduceMean", "x", "y", axes=[2, 3])], opset=13),
        "global-pool",
        1,
        {"GlobalAveragePool": 1},
    ),
    "two slices and a pad": (
        lambda: shortcut(0, 1, 0, 0, 0, 2, 0, 0),
        "merge-moves",
        1,
        {"Slice": 1, "Pad": 1, "Conv": 1, "Add": 1},
    ),
    "an expansion": (lambda: expanded(SPARSE), "merge-moves", 1, {"Conv": 2, "Pad": 1, "Gather": 1, "Add": 1}),
    "an expansion in order": (lambda: expanded(FIRST), "merge-moves", 1, {"Conv": 2, "Pad": 1, "Add": 1}),
    "a shortcut that skips places": (
        lambda: shortcut(0, 1, 0, 0, 0, 2, 0, 0, kernel=15),
        "shortcut-conv",
        1,
        {"Conv": 2, "Add": 1},
    ),
    "shut branches": (lambda: stream(1, -1), "constant-branches", 1, {"Conv": 3, "Add": 2, "Relu": 1}),
    "a branch that adds nothing": (lambda: stream(0), "constant-branches", 1, {"Conv": 3, "Add": 1, "Relu": 1}),
    "branches that lower, and one that raises": (
        lambda: stream(-1, -2, 1),
        "constant-branches",
        1,
        {"Conv": 3, "Add": 2, "Relu": 1},
    ),
    "branches that lower": (lambda: stream(-1, -2), "constant-branches", 1, {"Conv": 3, "Add": 1, "Relu": 1}),
    "a shut branch behind no convolution": (
        lambda: graph([node("Relu", "x", "r"), node("Add", "c r", "a"), node("Relu", "a", "y")], c=-np.abs(floats(1, 4, 1, 1))),
        "constant-branches",
        1,
        {"Add": 1, "Relu": 1},
    ),
    "a shortcut": (lambda: shortcut(0, 1, 0, 0, 0, 2, 0, 0), "select-conv", 1, {"Conv": 2, "Add": 1}),
    "zero rows": (lambda: BY_NAME["merge-moves"](expanded(SPARSE))[0], "zero-rows", 1, {"Conv": 2, "Add": 1}),
    "a place read 4 times": (lambda: pooled(2, repeated(2, 2)), "read-once", 1, {"Flatten": 1, "Gemm": 1}),
    "one place read 49 times": (lambda: pooled(1, repeated(1, 7)), "read-once", 1, {"Flatten": 1, "Gemm": 1}),
}

# a graph on which a step must not act
LEAVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a mean over channels": (lambda: graph([node("ReduceMean", "x axes", "y")], axes=ints(1)), "global-pool"),
    "a mean without the sizes": (lambda: graph([node("ReduceMean", "x axes", "y", keepdims=0)], axes=ints(2, 3)), "global-pool"),
    "a convolution alone": (lambda: graph([node("Conv", "x w", "y")], w=floats(4, 4, 3, 3)), "fold"),
    "one slice": (lambda: graph([node("Slice", "x zero far places two", "y")], **SKIP), "merge-moves"),
    "a pad with ones": (lambda: shortcut(0, 1, 0, 0, 0, 2, 0, 0, value=1.0), "select-conv"),
    "a pad of places": (lambda: shortcut(0, 1, 1, 0, 0, 2, 0, 0), "select-conv"),
    "channels that are only put among zeros": (lambda: expanded(SPARSE), "shortcut-conv"),
    "a shortcut that would cost more than it saves": (lambda: shortcut(0, 1, 0, 0, 0, 2, 0, 0), "shortcut-conv"),
    "one number for all channels": (
        lambda: graph([node("Relu", "x", "r"), node("Add", "r c", "a"), node("Relu", "a", "y")], c=floats(1, 1, 1, 1)),
        "constant-branches",
    ),
    "a stream that is read in between": (lambda: stream(1, read=True), "constant-branches"),
    "a constant for each place": (
        lambda: graph([node("Relu", "x", "r"), node("Add", "r c", "a"), node("Relu", "a", "y")], c=floats(1, 4, 8, 8)),
        "constant-branches",
    ),
    "a cropped map": (lambda: shortcut(0, 1, 0, 0, 0, 2, 0, 0, ends=6), "merge-moves"),
    "an expansion with ones": (lambda: expanded(SPARSE, zero=1.0), "merge-moves"),
    "ones between rows": (lambda: expanded(SPARSE, zero=1.0), "zero-rows"),
    "a movement that nothing is added to": (
        lambda: graph([node("Slice", "x zero far places two", "s"), node("Pad", "s pads", "y")], **SKIP, **PADS),
        "select-conv",
    ),
    "every place read once": (lambda: pooled(4, repeated(4, 1)), "read-once"),
    "an activation in between": (lambda: pooled(2, repeated(2, 2), last="Relu"), "read-once"),
}


@pytest.mark.parametrize("case", ACTS)
def test_a_step_acts_and_the_output_stays(case: str) -> None:
    make, name, places, left = ACTS[case]
    before = make()
    after, count = BY_NAME[name](before)
    assert (count, operators(after)) == (places, left)
    expected = run(before)
    np.testing.assert_allclose(run(after), expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    assert (after, count) == BY_NAME[name](before)
    assert BY_NAME[name](after) == (after, 0)


@pytest.mark.parametrize("case", LEAVES)
def test_a_step_leaves_what_it_does_not_know(case: str) -> None:
    make, name = LEAVES[case]
    before = make()
    assert BY_NAME[name](before) == (before, 0)


def test_every_step_is_tried_on_both() -> None:
    assert {name for _, name, _, _ in ACTS.values()} == {name for _, name in LEAVES.values()} == set(BY_NAME)
