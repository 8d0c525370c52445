"""The façade over onnxscript's intermediate representation: what the steps need to read and change a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnxscript import ir, optimizer
from onnxscript.ir.passes import common

from slimnet.onnx.strip import strip

Array = NDArray[Any]
Graph = Any  # ir.Graph
Node = Any  # ir.Node
Value = Any  # ir.Value
Sizes = Sequence[int | None]
"""Of an (N, C, …) tensor; None for one that is open."""


def read(data: bytes) -> Any:
    """The model in an ONNX file, as ``ir.Model``."""
    return ir.from_proto(onnx.load_from_string(data))


def write(model: Any) -> bytes:
    """The bytes of a valid file without what nobody uses any more; the same bytes for the same model."""
    common.RemoveUnusedNodesPass()(model)
    proto = ir.to_proto(model)
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    strip(proto)
    onnx.helper.set_model_props(proto, properties)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def fold(model: Any) -> int:
    """Fold constants and norms, drop nodes that do nothing, and keep one of equal nodes and constants, in place.

    Returns:
        How many nodes fewer there are.
    """
    before = len(model.graph)
    optimizer.optimize(model)
    return before - len(model.graph)


def operators(data: bytes) -> tuple[str, ...]:
    """The operators of a file, a node each, in order."""
    return tuple(node.op_type for node in onnx.load_from_string(data).graph.node)


def constant(value: Value | None) -> Array | None:
    """What is known of a value before the network runs; None where nothing is."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def integers(value: Value | None) -> list[int] | None:
    """The same as a flat list of integers."""
    array = constant(value)
    return None if array is None else [int(number) for number in array.reshape(-1)]


def shape(value: Value | None) -> list[int | None] | None:
    """Its sizes, None for each that is open; None where nothing is known of it."""
    if value is None or value.shape is None:
        return None
    return [size if isinstance(size, int) else None for size in value.shape]


def sizes_of_map(value: Value | None) -> tuple[int, int, int] | None:
    """C, H and W of an (N, C, H, W) map; None where it is none or one of them is open."""
    sizes = shape(value)
    if sizes is None or len(sizes) != 4:
        return None
    _, channels, height, width = sizes
    return (channels, height, width) if channels and height and width else None


def argument(node: Node, position: int) -> Value | None:
    """An input that may be left out."""
    return node.inputs[position] if position < len(node.inputs) else None


def attribute(node: Node, name: str, default: Any) -> Any:
    """The value of an attribute, or the operator's default."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def only_reader(value: Value) -> Node | None:
    """The node that reads a value, if exactly one does and it is no output of the graph."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def initializer(graph: Graph, name: str, array: Array) -> Value:
    """Give a constant to the graph, under a name that no other has; a list of numbers that it has already is taken instead."""
    if array.dtype == np.int64 and (same := _same(graph, array)) is not None:
        return same
    taken, unique, count = graph.initializers, name, 0
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    tensor = ir.tensor(array, name=unique)
    value = ir.Value(name=unique, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value


def _same(graph: Graph, array: Array) -> Value | None:
    for value in graph.initializers.values():
        if value.dtype == ir.DataType.INT64 and np.array_equal(value.const_value.numpy(), array):
            return value
    return None


def insert(graph: Graph, place: Node, op: str, inputs: Sequence[Value], *, sizes: Sizes, **attributes: Any) -> Value:
    """Put a new node with one output, of these sizes, before another, in place; its output."""
    node = ir.node(op, inputs, attributes=attributes, name=f"{place.outputs[0].name}_{op}")
    node.outputs[0].name = f"{node.name}_out"
    node.outputs[0].shape, node.outputs[0].dtype = ir.Shape(list(sizes)), place.outputs[0].dtype
    graph.insert_before(place, node)
    return node.outputs[0]


def evaluate(nodes: Sequence[Node], source: Value, output: Value, array: Array, opset: int) -> Array:
    """What some nodes, that read nothing but ``source`` and constants, make of an array."""
    known: dict[Any, Array | None] = {value.name: constant(value) for node in nodes for value in node.inputs if value is not None}
    graph = onnx.helper.make_graph(
        [ir.to_proto(node) for node in nodes],
        "part",
        [onnx.helper.make_tensor_value_info(source.name, onnx.TensorProto.FLOAT, array.shape)],
        [onnx.helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in known.items() if value is not None],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    outputs: Any = ReferenceEvaluator(model).run(None, {source.name: array})
    return np.asarray(outputs[0])


def redirect(graph: Graph, old: Node, value: Value) -> None:
    """Put a new value, name and all, in the place of a node's only output, and remove the node, in place."""
    output = old.outputs[0]
    name, value.shape, value.dtype = output.name, output.shape, output.dtype
    ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
    graph.remove(old, safe=True)
    value.name = name
