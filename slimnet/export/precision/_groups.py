"""Which tensors of an ONNX graph have the same channels, and which of these must stay as many as they are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from slimnet.onnx import graph as ir
from slimnet.onnx.graph import Graph, Node, Value

ALIKE = frozenset({"Add", "AveragePool", "GlobalAveragePool", "Identity", "LeakyRelu", "MaxPool", "Mul", "Relu", "Sum"})
"""Operators that mix no channels and make a channel of zeros from channels of zeros."""


class Groups:
    """Groups of tensors that have the same channels.

    Channels of a group may become more if they are made by layers and by moves, read by these, and by nothing else but
    operators that mix no channels and keep zeros zeros.

    Args:
        graph: of the network, with the sizes of its tensors.

    Attributes:
        layers: convolutions without groups, depthwise ones and linear layers, with constants that no other node reads.
        moves: ``Pad`` nodes that put the channels of one group among zeros, as channels of another.
        flattens: ``Flatten`` and ``Reshape`` nodes that put all places of all channels of an image in a row.
    """

    def __init__(self, graph: Graph) -> None:
        self.layers, self.moves, self.flattens = list[Node](), list[Node](), list[Node]()
        self._parents, self._depthwise = dict[Value, Value](), set[Value]()
        self._fixed: set[Value] = {*graph.inputs, *graph.outputs}
        counts: list[tuple[Value, int]] = []
        for node in graph:
            counts += self._visit(node)
        self._fixed = {self._group(value) for value in self._fixed}
        self._depthwise = {self._group(value) for value in self._depthwise}
        self._counts: dict[Value, set[int]] = defaultdict(set)
        for value, count in counts:
            self._counts[self._group(value)].add(count)

    def channels(self, value: Value) -> int | None:
        """The channels of a tensor that may become more; None where they must stay as many, or are not known."""
        group = self._group(value)
        counts = self._counts.get(group, set())
        return min(counts) if len(counts) == 1 and group not in self._fixed else None

    def meets_depthwise(self, value: Value) -> bool:
        """Whether a depthwise convolution reads or makes the channels of a tensor."""
        return self._group(value) in self._depthwise

    def fix(self, value: Value) -> None:
        """Say that the channels of a tensor must stay as many as they are."""
        self._fixed.add(self._group(value))

    def fix_between(self, names: Sequence[str]) -> None:
        """Say the same of those that no layers but these make and read."""
        ends = [(node.name in names, value) for node in self.layers for value in (node.inputs[0], *node.outputs)]
        others = {self._group(value) for is_named, value in ends if not is_named}
        self._fixed |= {group for is_named, value in ends if is_named and (group := self._group(value)) not in others}

    def _visit(self, node: Node) -> list[tuple[Value, int]]:
        """Sort a node in; the channels of tensors that it tells."""
        if _is_layer(node):
            self.layers.append(node)
            return self._around(node)
        if any(channel_padding(node) or ()):
            self.moves.append(node)
        elif _is_flat(node):
            self.flattens.append(node)
            self._join(node.inputs[0], node.outputs[0])
        elif _is_alike(node):
            self._join(*(value for value in node.inputs if value is not None and ir.stored(value) is None), *node.outputs)
        else:
            self._fixed |= {*node.inputs, *node.outputs} - {None}
        return []

    def _around(self, node: Node) -> list[tuple[Value, int]]:
        if node.op_type == "Gemm":
            self._fixed.add(node.outputs[0])
            return []
        rows, columns = ir.known(node.inputs[1]).shape[:2]
        if ir.attribute(node, "group", 1) > 1:
            self._join(node.inputs[0], node.outputs[0])
            self._depthwise.add(node.outputs[0])
            columns = rows
        return [(node.inputs[0], columns), (node.outputs[0], rows)]

    def _group(self, value: Value) -> Value:
        while (parent := self._parents.get(value, value)) is not value:
            value = parent
        return value

    def _join(self, first: Value, *others: Value) -> None:
        for other in others:
            self._parents[self._group(other)] = self._group(first)


def channel_padding(node: Node) -> tuple[int, int] | None:
    """Channels of zeros before and behind those of a map (N, C, H, W); None for what is no padding with zeros, or not known."""
    before, behind = ir.zero_padding(node) or ([], [])
    return (before[1], behind[1]) if len(before) == 4 else None


def _is_layer(node: Node) -> bool:
    if not all(ir.stored(value) is not None and len(value.uses()) == 1 for value in node.inputs[1:]):
        return False
    if node.op_type == "Conv":
        groups, shape = ir.attribute(node, "group", 1), ir.known(node.inputs[1]).shape
        return bool(groups == 1 or shape[:2] == (groups, 1))
    return bool(node.op_type == "Gemm" and ir.attribute(node, "transB", 0) == 1 and ir.attribute(node, "transA", 0) == 0)


def _is_flat(node: Node) -> bool:
    if node.op_type == "Flatten":
        return bool(ir.attribute(node, "axis", 1) == 1)
    target, sizes = ir.integers(ir.argument(node, 1)), ir.shape(node.inputs[0]) if node.op_type == "Reshape" else None
    if target is None or sizes is None or len(target) != 2 or len(sizes) < 2:
        return False
    return target[0] in (-1, 0) and target[1] == math.prod(size or 0 for size in sizes[1:]) > 0


def _is_alike(node: Node) -> bool:
    """Whether it treats all channels alike and keeps zeros zeros."""
    constants = [array for value in node.inputs[1:] if (array := ir.stored(value)) is not None]
    match node.op_type:
        case "Clip":
            return len(constants) == len(node.inputs) - 1 == 2 and bool(constants[0].max() <= 0 <= constants[1].min())
        case "Slice":
            return _are_places(node, ir.integers(ir.argument(node, 3)))
        case "ReduceMean":
            return len(constants) == 1 and _are_places(node, ir.integers(node.inputs[1]))
        case "Pad":
            return channel_padding(node) == (0, 0)
        case _:
            return node.op_type in ALIKE and ir.stored(node.inputs[0]) is None and not constants


def _are_places(node: Node, axes: list[int] | None) -> bool:
    return axes is not None and len(ir.shape(node.inputs[0]) or ()) == 4 and {axis % 4 for axis in axes} <= {2, 3}
