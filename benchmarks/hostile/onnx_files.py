"""Networks in ONNX that take for ever, take everything, read elsewhere, or are no networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Proto = onnx.ModelProto
INPUT, OUTPUT, CLASSES = "input", "logits", 10


def _ends(proto: Proto) -> tuple[str, str]:
    return proto.graph.input[0].name, proto.graph.output[0].name


def _renamed_output(proto: Proto) -> str:
    """Give the network's output another name, so that a node can be put behind it: that name."""
    _, name = _ends(proto)
    for node in proto.graph.node:
        for place, output in enumerate(node.output):
            if output == name:
                node.output[place] = "inner"
    return "inner"


def _behind(*nodes: Any, **tensors: Any) -> Callable[[Proto], None]:
    """Nodes behind the network: the first reads ``inner``, the last writes ``outer``."""

    def change(proto: Proto) -> None:
        _, name = _ends(proto)
        _renamed_output(proto)
        for node in nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for place, output in enumerate(copy.output):
                if output == "outer":
                    copy.output[place] = name
            proto.graph.node.append(copy)
        proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), key) for key, value in tensors.items())

    return change


def _loop(count: int) -> Callable[[Proto], None]:
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    node = helper.make_node("Loop", ["times", "yes", "inner"], ["outer"], body=body)
    return _behind(node, times=np.array(count, np.int64), yes=np.array(True))


def _functions(depth: int) -> Callable[[Proto], None]:
    """Each calls the one below twice."""

    def change(proto: Proto) -> None:
        _, name = _ends(proto)
        _renamed_output(proto)
        sets = [*proto.opset_import, helper.make_opsetid("f", 1)]
        for level in range(depth):
            below = ("Neg", "") if level == 0 else (f"f{level - 1}", "f")
            nodes = [helper.make_node(below[0], [a], [b], domain=below[1]) for a, b in (("x", "m"), ("m", "y"))]
            proto.functions.append(helper.make_function("f", f"f{level}", ["x"], ["y"], nodes, sets))
        del proto.opset_import[:]
        proto.opset_import.extend(sets)
        proto.graph.node.append(helper.make_node(f"f{depth - 1}", ["inner"], [name], domain="f"))

    return change


def _external(location: str) -> Callable[[Proto], None]:
    """The first weight lies in another file."""

    def change(proto: Proto) -> None:
        tensor = max(proto.graph.initializer, key=lambda each: len(each.raw_data))
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=location)
        tensor.external_data.add(key="offset", value="0")
        tensor.external_data.add(key="length", value=str(len(tensor.raw_data)))
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL

    return change


def _weights(value: float) -> Callable[[Proto], None]:
    def change(proto: Proto) -> None:
        tensor = max(proto.graph.initializer, key=lambda each: len(each.raw_data))
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.full_like(array, value), tensor.name))

    return change


def _dims(*dims: int) -> Callable[[Proto], None]:
    def change(proto: Proto) -> None:
        tensor = max(proto.graph.initializer, key=lambda each: len(each.raw_data))
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return change


def _input(kind: int = TensorProto.FLOAT, shape: Any = ("batch", 1, 8, 8), *, more: int = 0) -> Callable[[Proto], None]:
    """Another type or shape of the input, or more inputs."""

    def change(proto: Proto) -> None:
        name, _ = _ends(proto)
        del proto.graph.input[:]
        proto.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
        proto.graph.input.extend(helper.make_tensor_value_info(f"more{i}", kind, shape) for i in range(more))

    return change


def _no_input(proto: Proto) -> None:
    name, _ = _ends(proto)
    del proto.graph.input[:]
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 8, 8), np.float32), name))


def _rename(text: str) -> Callable[[Proto], None]:
    def change(proto: Proto) -> None:
        for node in proto.graph.node:
            node.name = f"{text} {node.name}"
        proto.graph.name = proto.producer_name = proto.doc_string = text

    return change


def _operator(kind: str, domain: str = "") -> Callable[[Proto], None]:
    return _behind(helper.make_node(kind, ["inner"], ["outer"], domain=domain, name=kind))


def _many(count: int) -> Callable[[Proto], None]:
    names = ["inner", *(f"n{i}" for i in range(count - 1)), "outer"]
    return _behind(*(helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names)))


def _rename_ends(text: str) -> Callable[[Proto], None]:
    def change(proto: Proto) -> None:
        old = _ends(proto)[0]
        for node in proto.graph.node:
            for place, name in enumerate(node.input):
                if name == old:
                    node.input[place] = text
        proto.graph.input[0].name = text

    return change


def _cycle(proto: Proto) -> None:
    proto.graph.node[0].input[0] = proto.graph.node[-1].output[0]


def _opset(version: int) -> Callable[[Proto], None]:
    def change(proto: Proto) -> None:
        proto.opset_import[0].version = version

    return change


def _ir(version: int) -> Callable[[Proto], None]:
    def change(proto: Proto) -> None:
        proto.ir_version = version

    return change


def _empty_graph(proto: Proto) -> None:
    del proto.graph.node[:]


def _metadata(proto: Proto) -> None:
    for entry in proto.metadata_props:
        entry.value = "{"
    proto.metadata_props.add(key="\x1b[2Jkey", value="\x1b]0;x\x07" * 1000)


def _huge(shape: tuple[int, ...]) -> Callable[[Proto], None]:
    """Something of that shape is made while it runs, and taken into the result."""
    made = helper.make_node("ConstantOfShape", ["shape"], ["made"], value=numpy_helper.from_array(np.ones(1, np.float32)))
    total = helper.make_node("ReduceSum", ["made"], ["total"], keepdims=0)
    return _behind(made, total, helper.make_node("Mul", ["inner", "total"], ["outer"]), shape=np.array(shape, np.int64))


def _reshape(*shape: int) -> Callable[[Proto], None]:
    return _behind(helper.make_node("Reshape", ["inner", "shape"], ["outer"]), shape=np.array(shape, np.int64))


CHANGES: dict[str, Callable[[Proto], None]] = {
    **{f"a loop of {count:.0e}": _loop(count) for count in (2**62, 10**12, -1)},
    **{f"functions that double {depth} deep": _functions(depth) for depth in (28, 16, 60)},
    **{f"functions {depth} deep": _functions(depth) for depth in (2,)},
    **{
        f"weights in {place!r}": _external(place)
        for place in (
            *("../../outside/secret.bin", "../outside/secret.bin", "/etc/passwd", "link", "../x/dense.onnx", "", "/dev/zero"),
            "a\x00b",
        )
    },
    **{f"weights of {value}": _weights(value) for value in (float("nan"), float("inf"), 3e38, 0.0)},
    **{f"a weight declared {dims}": _dims(*dims) for dims in ((10**6, 10**6), (-1, 3), (2**62, 2**62), (), (0,))},
    "integer input": _input(TensorProto.INT64),
    "text input": _input(TensorProto.STRING),
    "double input": _input(TensorProto.DOUBLE),
    "two inputs": _input(more=1),
    "no input": _no_input,
    "a fixed batch of 5": _input(shape=(5, 1, 8, 8)),
    "an input of 10⁶ pixels a side": _input(shape=("batch", 1, 10**6, 10**6)),
    "an input without a shape": _input(shape=None),
    "a negative batch": _input(shape=(-3, 1, 8, 8)),
    "a node that fails": _reshape(7, 7, 7),
    "logits of one class": _reshape(-1, 1),
    "logits in one row": _reshape(1, -1),
    "no logits": _behind(helper.make_node("Shape", ["inner"], ["outer"])),
    "text out": _behind(helper.make_node("Cast", ["inner"], ["outer"], to=TensorProto.STRING)),
    **{f"an allocation of {shape}": _huge(shape) for shape in ((1 << 33,), (1 << 40,), (1 << 62,))},
    "a long product": _behind(  # of whole numbers, which takes seconds and little memory
        helper.make_node("ConstantOfShape", ["shape"], ["made"], value=numpy_helper.from_array(np.ones(1, np.int64))),
        *(helper.make_node("MatMul", [f"power{n}" if n else "made", "made"], [f"power{n + 1}"]) for n in range(40)),
        helper.make_node("ReduceSum", ["power40"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["total"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["inner", "total"], ["outer"]),
        shape=np.array((1_000, 1_000), np.int64),
    ),
    "an unknown operator": _operator("Frobnicate"),
    "an unknown domain": _operator("Frobnicate", "com.example"),
    "an operator named with escapes": _operator("\x1b]0;x\x07\x1b[2J\nFORGED"),
    "nodes named with escapes": _rename("\x1b[2J\x9b31m\nFORGED"),
    "an input named with escapes": _rename_ends("\x1b[2J\nFORGED"),
    "200,000 nodes": _many(200_000),
    "5,000 nodes": _many(5_000),
    "a circle": _cycle,
    "no nodes": _empty_graph,
    "metadata of garbage": _metadata,
    **{f"opset {version}": _opset(version) for version in (0, 1, 9999)},
    **{f"IR version {version}": _ir(version) for version in (0, 9999)},
}
"""What is done to a good network."""


def changed(data: bytes, name: str) -> bytes:
    """A good network with one of `CHANGES`."""
    proto = onnx.load_from_string(data)
    CHANGES[name](proto)
    return proto.SerializeToString()


def write(path: Path, name: str) -> None:
    """Change a network in place."""
    path.write_bytes(changed(path.read_bytes(), name))
