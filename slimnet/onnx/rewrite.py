"""An ONNX file with changes: other constants in place of some, and without what nobody reads any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from slimnet.onnx.naming import free_name
from slimnet.onnx.program import Document, captured

Array = NDArray[Any]


@dataclass
class Changes:
    """What is to be changed in a file.

    Attributes:
        constants: (place of a node, position of its input) → what it reads there from now on.
        added: value → what is added to it, after the node that makes it.
        replaced: value → the constant that stands for it from now on.
        attributes: place of a node → attributes that become others.
    """

    constants: dict[tuple[int, int], Array] = field(default_factory=dict)
    added: dict[str, Array] = field(default_factory=dict)
    replaced: dict[str, Array] = field(default_factory=dict)
    attributes: dict[int, dict[str, Any]] = field(default_factory=dict)


def rewritten(document: Document, changes: Changes) -> onnx.ModelProto:
    """The file with changes; names, opset, metadata, inputs and outputs are kept.

    Args:
        document: the file.
        changes: what is to be another.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(document.proto)
    _Rewriter(proto.graph, changes, lists_weights=proto.ir_version < 4).run()
    return proto


class _Rewriter:
    """Changes a graph in place."""

    def __init__(self, graph: onnx.GraphProto, changes: Changes, *, lists_weights: bool) -> None:
        """``lists_weights``: each initializer is an input too, as was the rule before IR version 4."""
        self._graph, self._changes, self._lists_weights = graph, changes, lists_weights
        self._made = dict(enumerate(graph.node))
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)}
        self._taken |= {value.name for value in (*graph.input, *graph.output)} | {tensor.name for tensor in graph.initializer}

    def run(self) -> None:
        for index, attributes in self._changes.attributes.items():
            for name, value in attributes.items():
                _set_attribute(self._made[index], name, value)
        self._set_constants()
        for value, array in self._changes.replaced.items():
            self._replace(value, array)
        for value, array in self._changes.added.items():
            self._add(value, array)
        self._remove_unread()
        self._forget_sizes()

    def _set_constants(self) -> None:
        """A constant that all of its readers see changed in the same way keeps its name."""
        readers = self._readers()
        for (index, position), array in self._changes.constants.items():
            node = self._made[index]
            while len(node.input) <= position:
                node.input.append("")
            old = node.input[position]
            same = old and all(
                key in self._changes.constants and np.array_equal(self._changes.constants[key], array)
                for key in readers.get(old, [])
            )
            node.input[position] = self._constant(
                old if same else self._free(old or f"{node.name or node.output[0]}_bias"), array
            )

    def _readers(self) -> dict[str, list[tuple[int, int]]]:
        """Value → (node, position) of all that read it; graphs within nodes and outputs count as a place that nobody changes."""
        found: dict[str, list[tuple[int, int]]] = {value.name: [(-1, 0)] for value in self._graph.output}
        for index, node in self._made.items():
            for position, name in enumerate(node.input):
                found.setdefault(name, []).append((index, position))
            for name in captured(node):
                found.setdefault(name, []).append((-1, 0))
        return found

    def _constant(self, name: str, array: Array) -> str:
        """Hold a constant under a name, in place of what had it: an initializer, or the output of a node."""
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        for held in self._graph.initializer:
            if held.name == name:
                held.CopyFrom(tensor)
                break
        else:
            for node in self._graph.node:
                for position, output in enumerate(node.output):
                    if output == name:
                        node.output[position] = self._free(f"{name}_before")
            self._graph.initializer.append(tensor)
        listed = [value for value in self._graph.input if value.name == name]
        if self._lists_weights and not listed:
            listed = [self._graph.input.add()]
        for value in listed:
            value.CopyFrom(onnx.helper.make_tensor_value_info(name, tensor.data_type, array.shape))
        return name

    def _free(self, name: str) -> str:
        """A name that no other value has."""
        free = free_name(name, self._taken)
        self._taken.add(free)
        return free

    def _replace(self, value: str, array: Array) -> None:
        name = self._constant(self._free(f"{value}_constant"), array)
        for node in self._graph.node:
            for position, read in enumerate(node.input):
                if read == value:
                    node.input[position] = name

    def _add(self, value: str, array: Array) -> None:
        """The maker of a value makes another, and the value is that with a constant added."""
        place, maker = next((i, node) for i, node in enumerate(self._graph.node) if value in node.output)
        before = self._free(f"{value}_before_bias")
        maker.output[list(maker.output).index(value)] = before
        name = self._constant(self._free(f"{value}_bias"), array)
        self._graph.node.insert(place + 1, onnx.helper.make_node("Add", [before, name], [value], name=f"{value}_add_bias"))

    def _remove_unread(self) -> None:
        """Nodes and constants that lead to no output; inputs that are no constants stay."""
        read = {value.name for value in self._graph.output}
        idle = set()
        for place in reversed(range(len(self._graph.node))):
            node = self._graph.node[place]
            if read.isdisjoint(node.output):
                idle.add(place)
            else:
                read.update(name for name in (*node.input, *captured(node)) if name)
        for place in sorted(idle, reverse=True):
            del self._graph.node[place]
        stored = {tensor.name for tensor in self._graph.initializer}
        _keep(self._graph.initializer, lambda tensor: tensor.name in read)
        _keep(self._graph.input, lambda value: value.name in read or value.name not in stored)

    def _forget_sizes(self) -> None:
        """What was said of the sizes of values between, which may have changed."""
        self._graph.ClearField("value_info")


def _keep(items: Any, wanted: Callable[[Any], bool]) -> None:
    """Remove, in place, what is not wanted of a repeated field."""
    for place in reversed([place for place, item in enumerate(items) if not wanted(item)]):
        del items[place]


def _set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    made = onnx.helper.make_attribute(name, value)
    for held in node.attribute:
        if held.name == name:
            held.CopyFrom(made)
            return
    node.attribute.append(made)
