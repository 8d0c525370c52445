"""What a rule may ask of the network around its node, and how it adds to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from slimnet.onnx.naming import free_name

Array = NDArray[Any]


class CannotLowerError(Exception):
    """A node that no older operator set can say; its text is the reason."""


@dataclass(eq=False)
class Context:
    """Constants, types and names of one graph and of those around it.

    Attributes:
        wanted: the operator set that is written.
        constants: name → tensor.
        types: name → what is known of a tensor's type and sizes.
        taken: names of all tensors.
        added: constants that rules have made.
    """

    wanted: int
    constants: dict[str, TensorProto]
    types: dict[str, onnx.TypeProto]
    taken: set[str]
    added: list[TensorProto] = field(default_factory=list)

    def constant(self, name: str) -> Array | None:
        """The numbers of a constant; None for any other tensor."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def integers(self, name: str) -> list[int] | None:
        """The same as a flat list of integers."""
        array = self.constant(name)
        return None if array is None else [int(number) for number in array.reshape(-1)]

    def element(self, name: str) -> int:
        """The type of a tensor's elements, as onnx numbers them; 0 where it is not known."""
        if name in self.constants:
            return int(self.constants[name].data_type)
        return int(self.types[name].tensor_type.elem_type) if name in self.types else 0

    def rank(self, name: str) -> int | None:
        """How many axes a tensor has; None where that is not known."""
        if name in self.constants:
            return len(self.constants[name].dims)
        known = name in self.types and self.types[name].tensor_type.HasField("shape")
        return len(self.types[name].tensor_type.shape.dim) if known else None

    def size(self, name: str, axis: int) -> int | None:
        """Length of an axis; None where it is open or not known."""
        rank = self.rank(name)
        if rank is None or name in self.constants:
            return None if rank is None else int(self.constants[name].dims[axis])
        return int(self.types[name].tensor_type.shape.dim[axis].dim_value) or None

    def name(self, wish: str) -> str:
        """A name that no tensor has."""
        name = free_name(wish, self.taken)
        self.taken.add(name)
        return name

    def add(self, wish: str, array: Array) -> str:
        """Make a constant; its name."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(array) if array.ndim else array, self.name(wish))
        self.added.append(tensor)
        self.constants[tensor.name] = tensor
        return str(tensor.name)

    def number(self, node: onnx.NodeProto, value: float) -> str:
        """Make a constant scalar of the type that a node's first input has."""
        dtype = helper.tensor_dtype_to_np_dtype(self.element(node.input[0]) or TensorProto.FLOAT)
        return self.add(f"{node.output[0]}_number", np.array(value, dtype))


class Parts:
    """The nodes that take the place of one; the last of them gives its output.

    Args:
        node: that is replaced.
        context: of the network.
    """

    def __init__(self, node: onnx.NodeProto, context: Context) -> None:
        self.node, self.context, self.made = node, context, list[onnx.NodeProto]()

    def put(self, op: str, *inputs: str, last: bool = False, **attributes: Any) -> str:
        """Add a node; the name of its output."""
        output = self.node.output[0] if last else self.context.name(f"{self.node.output[0]}_{op.lower()}")
        name = self.node.name if last else f"{self.node.name}.{op.lower()}_{len(self.made)}" if self.node.name else ""
        self.made.append(helper.make_node(op, inputs, [output], name=name or None, **attributes))
        return output


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute, text as str; the default where it is not there."""
    found = next((one for one in node.attribute if one.name == name), None)
    if found is None:
        return default
    value = helper.get_attribute_value(found)
    return value.decode() if isinstance(value, bytes) else value


def drop(node: onnx.NodeProto, *names: str) -> None:
    """Take attributes out, in place."""
    kept = [one for one in node.attribute if one.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def give(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Give a node an attribute, in place."""
    drop(node, name)
    node.attribute.append(helper.make_attribute(name, value))


def argument(node: onnx.NodeProto, position: int) -> str:
    """An input that may be left out: ``""``, then."""
    return str(node.input[position]) if position < len(node.input) else ""


def inputs(node: onnx.NodeProto, names: Sequence[str]) -> None:
    """Give a node its inputs, in place."""
    del node.input[:]
    node.input.extend(names)


def referenced(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names of the tensors that nodes, and the graphs in them, read."""
    found: set[str] = set()
    for node in nodes:
        found.update(node.input)
        for one in node.attribute:
            for graph in (one.g, *one.graphs):
                found |= referenced(graph.node) | {value.name for value in graph.output}
    return found
