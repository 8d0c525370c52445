"""How a convolution reads the few planes of an image as as many channels as fast 8-bit kernels want."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from slimnet.export.precision._groups import Array


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
        sizes: input → its (N, C, H, W); 0 for one that is open.
        step: what a number of channels is to be a multiple of.
        nodes: what was added, in order.
        constants: of these nodes.
        made: tensor that they give → the input whose numbers it holds, zeros beside them.
    """

    sizes: dict[str, list[int]]
    step: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)

    def attach(self, conv: onnx.NodeProto, weight: Array) -> Array:
        """Let a convolution read its input in another form, in place.

        One with a stride reads the places of each block as channels, and has no stride then; any other gets planes of zeros.

        Args:
            conv: a convolution without groups that reads an input.
            weight: its (F, C, h, w).

        Returns:
            Its new weights, which give the same.
        """
        strides, planes = set(_whole(conv, "strides", (1, 1))), weight.shape[1]
        stride = strides.pop() if len(strides) == 1 else 1
        sides = _sides(conv, weight.shape[2:], self.sizes[conv.input[0]][2:], stride)
        if sides is None or planes * stride**2 % self.step:
            more = -planes % self.step
            conv.input[0] = self._padded(conv.input[0], more)
            return np.pad(weight, [(0, 0), (0, more), (0, 0), (0, 0)])
        rows, columns = sides
        conv.input[0] = self._in_blocks(conv.input[0], stride)
        _set(conv, "pads", (rows.before, columns.before, rows.behind, columns.behind))
        _set(conv, "strides", (1, 1))
        _set(conv, "kernel_shape", (rows.kernel, columns.kernel))
        return _in_blocks(weight, stride, rows, columns)

    def _padded(self, source: str, more: int) -> str:
        output = f"{source}_wide"
        if output not in self.made:
            self._add("Pad", source, output, np.array([0, 0, 0, 0, 0, more, 0, 0]))
            self.made[output] = source
        return output

    def _in_blocks(self, source: str, stride: int) -> str:
        """(N, C, H, W) → (N, s·C·s, H/s, W/s): place in the row of a block, plane, row of the block.

        In an order in which whole rows are moved first, and the last move but one is none once the runtime has channels last.
        """
        _, planes, height, width = self.sizes[source]
        output = f"{source}_blocks{stride}"
        if output in self.made:
            return output
        high, wide = height // stride, width // stride
        moves: list[tuple[str, list[int]]] = [
            ("Reshape", [0, planes, high, stride, width]),
            ("Transpose", [0, 1, 3, 2, 4]),
            ("Reshape", [0, planes * stride, high, width]),
            ("Transpose", [0, 2, 3, 1]),
            ("Reshape", [0, high, wide, stride * planes * stride]),
            ("Transpose", [0, 3, 1, 2]),
        ]
        name = source
        for number, (op, numbers) in enumerate(moves):
            target = output if number == len(moves) - 1 else f"{output}_{number}"
            if op == "Transpose":
                self.nodes.append(helper.make_node(op, [name], [target], name=f"{target}_{op}", perm=numbers))
            else:
                self._add(op, name, target, np.array(numbers))
            name = target
        self.made[output] = source
        return output

    def _add(self, op: str, source: str, output: str, numbers: Array) -> None:
        constant = f"{output}_numbers"
        self.constants[constant] = numbers
        self.nodes.append(helper.make_node(op, [source, constant], [output], name=f"{output}_{op}"))


def _sides(conv: onnx.NodeProto, kernel: Sequence[int], sizes: Sequence[int], stride: int) -> tuple[_Side, _Side] | None:
    """Height and width in blocks; None where a convolution cannot be written without its stride, or has none."""
    automatic = any(entry.name == "auto_pad" and entry.s != b"NOTSET" for entry in conv.attribute)
    if stride == 1 or automatic or set(_whole(conv, "dilations", (1, 1))) != {1}:
        return None
    top, left, bottom, right = _whole(conv, "pads", (0, 0, 0, 0))
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


def _whole(node: onnx.NodeProto, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return next((tuple(entry.ints) for entry in node.attribute if entry.name == name), default)


def _set(node: onnx.NodeProto, name: str, numbers: Sequence[int]) -> None:
    others = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend([*others, helper.make_attribute(name, numbers)])
