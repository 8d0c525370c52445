"""A network as a graph that can be read and changed. The façade over onnxscript's intermediate representation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnxscript import ir, optimizer
from onnxscript.ir.passes import common

from slimnet.onnx.build import network
from slimnet.onnx.naming import free_name
from slimnet.onnx.write import serialised, write

Array = NDArray[Any]
Graph = Any  # ir.Graph
Node = Any  # ir.Node
Value = Any  # ir.Value
Sizes = Sequence[int | None]
"""Of an (N, C, …) tensor; None for one that is open."""


def read(data: bytes) -> Any:
    """The model in an ONNX file, as ``ir.Model``."""
    return ir.from_proto(onnx.load_from_string(data))


def written(model: Any) -> bytes:
    """The bytes of a valid file without what nobody uses any more; the same bytes for the same model.

    Raises:
        ExportError: if it is not valid ONNX.
    """
    common.RemoveUnusedNodesPass()(model)
    proto = ir.to_proto(model)
    return write(proto, metadata={entry.key: entry.value for entry in proto.metadata_props}, name="the changed graph")


def sized(model: Any) -> bytes:
    """The bytes of a file with the sizes of all tensors, inferred anew; constants that nobody reads are taken out, in place.

    Raises:
        Exception: onnx's own, if the sizes do not fit together.
    """
    held = model.graph.initializers
    for name in [name for name, value in held.items() if not value.uses() and not value.is_graph_output()]:
        del held[name]
    proto = ir.to_proto(model)
    proto.graph.ClearField("value_info")
    return serialised(onnx.shape_inference.infer_shapes(proto, strict_mode=True))


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


def known(value: Value | None) -> Array:
    """What is known of a value that is a constant."""
    array = constant(value)
    assert array is not None
    return array


def stored(value: Value | None) -> Array | None:
    """A constant that the graph holds, and that is neither an input nor an output of it; None for any other value."""
    if value is None or not value.is_initializer() or value.is_graph_input() or value.is_graph_output():
        return None
    return constant(value)


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


def set_attribute(node: Node, name: str, value: int | Sequence[int]) -> None:
    """Give a node an attribute, in place."""
    node.attributes[name] = ir.convenience.convert_attribute(name, value)


def zero_padding(node: Node) -> tuple[list[int], list[int]] | None:
    """Zeros put before and behind along each dimension; None for what is no padding with zeros, or not known."""
    pads, value = integers(argument(node, 1)), argument(node, 2)
    fill = np.zeros(1) if value is None else constant(value)
    if node.op_type != "Pad" or not pads or fill is None or argument(node, 3) is not None:
        return None
    if min(pads) < 0 or fill.any() or attribute(node, "mode", "constant") != "constant":
        return None
    return pads[: len(pads) // 2], pads[len(pads) // 2 :]


def only_reader(value: Value) -> Node | None:
    """The node that reads a value, if exactly one does and it is no output of the graph."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def initializer(graph: Graph, name: str, array: Array) -> Value:
    """Give a constant to the graph, under a name that no other has; a list of numbers that it has already is taken instead."""
    if array.dtype == np.int64 and (same := _same(graph, array)) is not None:
        return same
    return new_constant(graph, free_name(name, graph.initializers), array)


def new_constant(graph: Graph, name: str, array: Array) -> Value:
    """Give a constant to the graph, behind those that it has, under a name that no other has."""
    value = ir.Value(name=name)
    set_constant(value, array)
    graph.register_initializer(value)
    return value


def set_constant(value: Value, array: Array) -> None:
    """Let a constant of the graph hold other numbers, in place."""
    tensor = ir.tensor(array, name=value.name)
    value.const_value, value.shape, value.type = tensor, ir.Shape(array.shape), ir.TensorType(tensor.dtype)


def put_constant(graph: Graph, value: Value, array: Array) -> None:
    """The same, and the constant stands behind all others."""
    set_constant(value, array)
    del graph.initializers[value.name]
    graph.register_initializer(value)


def _same(graph: Graph, array: Array) -> Value | None:
    for value in graph.initializers.values():
        if value.dtype == ir.DataType.INT64 and np.array_equal(value.const_value.numpy(), array):
            return value
    return None


def insert(graph: Graph, place: Node, op: str, inputs: Sequence[Value], *, sizes: Sizes, **attributes: Any) -> Value:
    """Put a new node with one output, of these sizes, before another, in place; its output."""
    output = f"{place.outputs[0].name}_{op}_out"
    name = free_name(f"{place.name}.{op.lower()}", {node.name for node in graph})
    value = put_node(graph, place, op, inputs, name=name, output=output, **attributes)
    value.shape, value.dtype = ir.Shape(list(sizes)), place.outputs[0].dtype
    return value


def put_node(graph: Graph, place: Node, op: str, inputs: Sequence[Value], *, name: str, output: str, **attributes: Any) -> Value:
    """Put a new node with one output before another, in place; its output."""
    node = ir.node(op, inputs, attributes=attributes, name=name)
    node.outputs[0].name = output
    graph.insert_before(place, node)
    return node.outputs[0]


def evaluate(nodes: Sequence[Node], source: Value, output: Value, array: Array, opset: int) -> Array:
    """What some nodes, that read nothing but ``source`` and constants, make of an array."""
    given = {value.name: constant(value) for node in nodes for value in node.inputs if value is not None}
    model = network(
        [ir.to_proto(node) for node in nodes],
        inputs={source.name: array.shape},
        outputs={output.name: None},
        constants={name: value for name, value in given.items() if value is not None},
        opset=opset,
    )
    outputs: Any = ReferenceEvaluator(model).run(None, {source.name: array})
    return np.asarray(outputs[0])


def redirect(graph: Graph, old: Node, value: Value) -> None:
    """Put a new value, name and all, in the place of a node's only output, and remove the node, in place.

    A node of the same operator that was inserted for it takes its name too.
    """
    output = old.outputs[0]
    name, value.shape, value.dtype = output.name, output.shape, output.dtype
    ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
    graph.remove(old, safe=True)
    value.name = name
    maker = value.producer()
    if maker is not None and maker.name == f"{old.name}.{old.op_type.lower()}" and maker.op_type == old.op_type:
        maker.name = old.name
