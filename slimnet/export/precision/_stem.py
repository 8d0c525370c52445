"""How a convolution reads the few planes of an image as as many channels as fast 8-bit kernels want."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from slimnet.onnx import graph as ir
from slimnet.onnx.graph import Array, Graph, Node, Value


class _Side(NamedTuple):
    """Height or width of a convolution, in blocks of as many places as its stride has."""

    before: int
    offset: int
    kernel: int
    behind: int


@dataclass(eq=False)
class Stem:
    """The nodes between a network's inputs and the convolutions that read them.

    Attributes:
        graph: of the network; changed in place.
        step: what a number of channels is to be a multiple of.
        nodes: names of those that were put at its begin, in order.
        images: tensor that they give → the input whose numbers it holds, zeros beside them; by name.
    """

    graph: Graph
    step: int
    nodes: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._first, self._made = next(iter(self.graph)), dict[str, Value]()

    def attach(self, conv: Node) -> None:
        """Let a convolution without groups, which reads an input, read it in another form, in place; it gives the same.

        One with a stride reads the places of each block as channels, and has no stride then; any other gets planes of zeros.
        """
        source, weight = conv.inputs[0], ir.known(conv.inputs[1])
        strides, planes = set(ir.attribute(conv, "strides", (1, 1))), weight.shape[1]
        stride = strides.pop() if len(strides) == 1 else 1
        sides = _sides(conv, weight.shape[2:], _sizes(source)[2:], stride)
        if sides is None or planes * stride**2 % self.step:
            more = -planes % self.step
            conv.replace_input_with(0, self._padded(source, more))
            ir.set_constant(conv.inputs[1], np.pad(weight, [(0, 0), (0, more), (0, 0), (0, 0)]))
            return
        rows, columns = sides
        conv.replace_input_with(0, self._in_blocks(source, stride))
        given = {
            "pads": [rows.before, columns.before, rows.behind, columns.behind],
            "strides": [1, 1],
            "kernel_shape": [rows.kernel, columns.kernel],
        }
        for name, numbers in given.items():
            conv.attributes.pop(name, None)
            ir.set_attribute(conv, name, numbers)
        ir.set_constant(conv.inputs[1], _in_blocks(weight, stride, rows, columns))

    def _padded(self, source: Value, more: int) -> Value:
        output = f"{source.name}_wide"
        if output not in self._made:
            return self._keep(source, self._add("Pad", source, output, [0, 0, 0, 0, 0, more, 0, 0]))
        return self._made[output]

    def _in_blocks(self, source: Value, stride: int) -> Value:
        """(N, C, H, W) → (N, s·C·s, H/s, W/s): place in the row of a block, plane, row of the block.

        In an order in which whole rows are moved first, and the last move but one is none once the runtime has channels last.
        """
        _, planes, height, width = _sizes(source)
        output = f"{source.name}_blocks{stride}"
        if output in self._made:
            return self._made[output]
        high, wide = height // stride, width // stride
        moves: list[tuple[str, list[int]]] = [
            ("Reshape", [0, planes, high, stride, width]),
            ("Transpose", [0, 1, 3, 2, 4]),
            ("Reshape", [0, planes * stride, high, width]),
            ("Transpose", [0, 2, 3, 1]),
            ("Reshape", [0, high, wide, stride * planes * stride]),
            ("Transpose", [0, 3, 1, 2]),
        ]
        value = source
        for number, (op, numbers) in enumerate(moves):
            value = self._add(op, value, output if number == len(moves) - 1 else f"{output}_{number}", numbers)
        return self._keep(source, value)

    def _keep(self, source: Value, value: Value) -> Value:
        self._made[value.name], self.images[value.name] = value, source.name
        return value

    def _add(self, op: str, source: Value, output: str, numbers: list[int]) -> Value:
        """Put a node at the begin, behind those that were put there before; its output."""
        names = {"name": f"{output}_{op}", "output": output}
        self.nodes.append(names["name"])
        if op == "Transpose":
            return ir.put_node(self.graph, self._first, op, [source], perm=numbers, **names)
        given = ir.new_constant(self.graph, f"{output}_numbers", np.array(numbers))
        return ir.put_node(self.graph, self._first, op, [source, given], **names)


def _sizes(image: Value) -> list[int]:
    """(N, C, H, W); 0 for one that is open."""
    return [size or 0 for size in ir.shape(image) or []]


def _sides(conv: Node, kernel: Sequence[int], sizes: Sequence[int], stride: int) -> tuple[_Side, _Side] | None:
    """Height and width in blocks; None where a convolution cannot be written without its stride, or has none."""
    automatic = ir.attribute(conv, "auto_pad", "NOTSET") != "NOTSET"
    if stride == 1 or automatic or set(ir.attribute(conv, "dilations", (1, 1))) != {1}:
        return None
    top, left, bottom, right = ir.attribute(conv, "pads", (0, 0, 0, 0))
    rows = _side(sizes[0], kernel[0], stride, top, bottom)
    columns = _side(sizes[1], kernel[1], stride, left, right)
    return None if rows is None or columns is None else (rows, columns)


def _side(size: int, kernel: int, stride: int, before: int, behind: int) -> _Side | None:
    if size == 0 or size % stride:
        return None
    outputs = (size + before + behind - kernel) // stride + 1
    blocks_before = -(-before // stride)
    offset = blocks_before * stride - before
    blocks = -(-(offset + kernel) // stride)
    blocks_behind = outputs - 1 + blocks - size // stride - blocks_before
    return _Side(blocks_before, offset, blocks, blocks_behind)


def _in_blocks(weight: Array, stride: int, rows: _Side, columns: _Side) -> Array:
    """(F, C, h, w) → (F, s·C·s, h', w'), with zeros for places of blocks that the filter did not reach."""
    filters, planes, height, width = weight.shape
    whole = np.zeros((filters, planes, rows.kernel * stride, columns.kernel * stride), weight.dtype)
    whole[:, :, rows.offset : rows.offset + height, columns.offset : columns.offset + width] = weight
    parts = whole.reshape(filters, planes, rows.kernel, stride, columns.kernel, stride).transpose(0, 5, 1, 3, 2, 4)
    return np.ascontiguousarray(parts.reshape(filters, stride * planes * stride, rows.kernel, columns.kernel))
