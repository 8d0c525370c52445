"""Which tensors of an ONNX graph have the same channels, and which of these must stay as many as they are."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]

ALIKE = frozenset({"Add", "AveragePool", "GlobalAveragePool", "Identity", "LeakyRelu", "MaxPool", "Mul", "Relu", "Sum"})
"""Operators that mix no channels and make a channel of zeros from channels of zeros."""


class Groups:
    """Groups of tensors that have the same channels.

    Channels of a group may become more if they are made by layers and by moves, read by these, and by nothing else but
    operators that mix no channels and keep zeros zeros.

    Args:
        graph: of the network, with the sizes of its tensors.

    Attributes:
        arrays: its constants.
        layers: convolutions without groups, depthwise ones and linear layers, with constants that no other node reads.
        moves: ``Pad`` nodes that put the channels of one group among zeros, as channels of another.
        flattens: ``Flatten`` and ``Reshape`` nodes that put all places of all channels of an image in a row.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        ends = {entry.name for entry in (*graph.input, *graph.output)}
        self.arrays: dict[str, Array] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name not in ends
        }
        self.layers, self.moves, self.flattens = list[onnx.NodeProto](), list[onnx.NodeProto](), list[onnx.NodeProto]()
        self._parents, self._fixed, self._depthwise = dict[str, str](), ends, set[str]()
        self._sizes = {entry.name: [dim.dim_value for dim in entry.type.tensor_type.shape.dim] for entry in graph.value_info}
        self._uses = Counter(name for node in graph.node for name in node.input)
        counts: list[tuple[str, int]] = []
        for node in graph.node:
            counts += self._visit(node)
        self._fixed = {self._group(name) for name in self._fixed}
        self._depthwise = {self._group(name) for name in self._depthwise}
        self._counts: dict[str, set[int]] = defaultdict(set)
        for name, count in counts:
            self._counts[self._group(name)].add(count)

    def channels(self, name: str) -> int | None:
        """The channels of a tensor that may become more; None where they must stay as many, or are not known."""
        group = self._group(name)
        counts = self._counts.get(group, set())
        return min(counts) if len(counts) == 1 and group not in self._fixed else None

    def meets_depthwise(self, name: str) -> bool:
        """Whether a depthwise convolution reads or makes the channels of a tensor."""
        return self._group(name) in self._depthwise

    def fix(self, name: str) -> None:
        """Say that the channels of a tensor must stay as many as they are."""
        self._fixed.add(self._group(name))

    def _visit(self, node: onnx.NodeProto) -> list[tuple[str, int]]:
        """Sort a node in; the channels of tensors that it tells."""
        if self._is_layer(node):
            self.layers.append(node)
            return self._around(node)
        if any(channel_padding(node, self.arrays) or ()):
            self.moves.append(node)
        elif self._is_flat(node):
            self.flattens.append(node)
            self._join(node.input[0], node.output[0])
        elif self._is_alike(node):
            self._join(*(name for name in node.input if name and name not in self.arrays), *node.output)
        else:
            self._fixed |= {*node.input, *node.output}
        return []

    def _around(self, node: onnx.NodeProto) -> list[tuple[str, int]]:
        if node.op_type == "Gemm":
            self._fixed.add(node.output[0])
            return []
        rows, columns = self.arrays[node.input[1]].shape[:2]
        if attribute(node, "group", 1) > 1:
            self._join(node.input[0], node.output[0])
            self._depthwise.add(node.output[0])
            columns = rows
        return [(node.input[0], columns), (node.output[0], rows)]

    def _is_layer(self, node: onnx.NodeProto) -> bool:
        if not all(name in self.arrays and self._uses[name] == 1 for name in node.input[1:]):
            return False
        if node.op_type == "Conv":
            groups, shape = attribute(node, "group", 1), self.arrays[node.input[1]].shape
            return groups == 1 or shape[:2] == (groups, 1)
        return node.op_type == "Gemm" and attribute(node, "transB", 0) == 1 and attribute(node, "transA", 0) == 0

    def _is_flat(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Flatten":
            return attribute(node, "axis", 1) == 1
        if node.op_type != "Reshape" or node.input[1] not in self.arrays:
            return False
        target, sizes = self.arrays[node.input[1]].tolist(), self._sizes.get(node.input[0], [])
        return len(target) == 2 and target[0] in (-1, 0) and len(sizes) > 1 and target[1] == math.prod(sizes[1:]) > 0

    def _is_alike(self, node: onnx.NodeProto) -> bool:
        constants = [self.arrays[name] for name in node.input[1:] if name in self.arrays]
        match node.op_type:
            case "Clip":
                return len(constants) == len(node.input) - 1 == 2 and bool(constants[0].max() <= 0 <= constants[1].min())
            case "Slice":
                axes = self.arrays.get(node.input[3]) if len(node.input) > 3 else None
                return axes is not None and self._are_places(node, axes)
            case "ReduceMean":
                return len(constants) == 1 and self._are_places(node, constants[0])
            case "Pad":
                return channel_padding(node, self.arrays) == (0, 0)
            case _:
                return node.op_type in ALIKE and node.input[0] not in self.arrays and not constants

    def _are_places(self, node: onnx.NodeProto, axes: Array) -> bool:
        return len(self._sizes.get(node.input[0], [])) == 4 and {int(axis) % 4 for axis in axes.reshape(-1)} <= {2, 3}

    def _group(self, name: str) -> str:
        while (parent := self._parents.get(name, name)) != name:
            name = parent
        return name

    def _join(self, first: str, *others: str) -> None:
        for other in others:
            self._parents[self._group(other)] = self._group(first)


def channel_padding(node: onnx.NodeProto, arrays: Mapping[str, Array]) -> tuple[int, int] | None:
    """Channels of zeros before and behind those of a map (N, C, H, W); None for what is no padding with zeros, or not known."""
    if node.op_type != "Pad" or len(node.input) not in (2, 3) or any(entry.s != b"constant" for entry in node.attribute):
        return None
    value = arrays.get(node.input[2]) if len(node.input) == 3 and node.input[2] else np.zeros(1)
    sides = arrays[node.input[1]].tolist() if node.input[1] in arrays else []
    if value is None or value.any() or len(sides) != 8 or min(sides) < 0:
        return None
    return int(sides[1]), int(sides[5])


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """The value of a whole number, or the operator's default."""
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)
