"""Nodes that only move channels and skip places, read as one movement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from slimnet.onnx import graph as ir

NOWHERE = -1
"""In an index: a channel of zeros."""
FAR = 2**31 - 1
"""An end that is at least this means "to the end", whatever the size."""


@dataclass(frozen=True)
class Movement:
    """What a chain of nodes does that picks channels and places of a map and puts channels of zeros between them.

    Attributes:
        source: the (N, C, H, W) map that is read.
        index: for each channel that comes out, the one that it was, or :data:`NOWHERE`.
        strides: every so-maniest place is kept, along height and width.
        nodes: number of nodes, with those that only make the zeros.
    """

    source: ir.Value
    index: tuple[int, ...]
    strides: tuple[int, int] = (1, 1)
    nodes: int = 0

    @property
    def channels(self) -> int:
        """C, that are read."""
        return int((ir.shape(self.source) or [0, 0])[1] or 0)

    @property
    def padding(self) -> tuple[int, int] | None:
        """Channels of zeros put before and behind all that are read, where that is all that happens to channels."""
        places = [place for place, channel in enumerate(self.index) if channel != NOWHERE]
        first = places[0] if places else 0
        behind = len(self.index) - first - self.channels
        padded = (NOWHERE,) * first + tuple(range(self.channels)) + (NOWHERE,) * behind
        return (first, behind) if self.index == padded else None


def movements(model: Any) -> list[tuple[ir.Node, Movement]]:
    """The last node of every chain that moves channels or skips places, and what the chain does."""
    steps = {id(node): step for node in model.graph if (step := _step(node)) is not None}
    found = []
    for node in model.graph:
        if id(node) in steps:
            reader = ir.only_reader(node.outputs[0])
            if reader is None or id(reader) not in steps or steps[id(reader)].source is not node.outputs[0]:
                found.append((node, _followed(steps[id(node)])))
    return found


def _followed(last: Movement) -> Movement:
    """The movement with all that come before it, as long as nobody else reads what is in between."""
    node = last.source.producer()
    step = None if node is None or ir.only_reader(last.source) is None else _step(node)
    if step is None:
        return last
    before = _followed(step)
    return Movement(
        source=before.source,
        index=tuple(NOWHERE if channel == NOWHERE else before.index[channel] for channel in last.index),
        strides=(before.strides[0] * last.strides[0], before.strides[1] * last.strides[1]),
        nodes=before.nodes + last.nodes,
    )


def _step(node: ir.Node) -> Movement | None:
    """What one node does; None where it does anything else than move."""
    rule = _RULES.get(node.op_type)
    return rule(node) if rule is not None and node.domain in ("", "ai.onnx") else None


def _whole(value: ir.Value | None) -> Movement | None:
    """A map left as it is; None where it is no (N, C, H, W) map with a known C."""
    sizes = ir.shape(value)
    return Movement(value, tuple(range(sizes[1])), nodes=1) if sizes and len(sizes) == 4 and sizes[1] else None


def _slice(node: ir.Node) -> Movement | None:
    whole = _whole(node.inputs[0])
    given = [ir.integers(ir.argument(node, position)) for position in range(1, 5)]
    starts, ends, axes, steps = given
    if whole is None or starts is None or ends is None or axes is None:
        return None
    movement, sizes = whole, ir.shape(whole.source) or []
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(axes), strict=True):
        if step < 1 or axis % 4 == 0:
            return None
        if axis % 4 == 1:
            movement = replace(movement, index=movement.index[start:end:step])
        else:
            size = sizes[axis % 4]
            if start != 0 or end < (FAR if size is None else size):
                return None
            height, width = movement.strides
            movement = replace(movement, strides=(height * step, width) if axis % 4 == 2 else (height, width * step))
    return movement


def _pad(node: ir.Node) -> Movement | None:
    whole, sides = _whole(node.inputs[0]), ir.zero_padding(node)
    if whole is None or sides is None or any(sum(side) != side[1] for side in sides):
        return None
    before, behind = ((NOWHERE,) * side[1] for side in sides)
    return replace(whole, index=before + whole.index + behind)


def _gather(node: ir.Node) -> Movement | None:
    whole, index = _whole(node.inputs[0]), ir.constant(ir.argument(node, 1))
    if whole is None or index is None or index.ndim != 1 or ir.attribute(node, "axis", 0) % 4 != 1:
        return None
    return replace(whole, index=tuple(whole.index[channel] for channel in index.tolist()))


def _concat(node: ir.Node) -> Movement | None:
    """One map, with zeros before or behind it."""
    if ir.attribute(node, "axis", 0) % 4 != 1:
        return None
    wholes, zeros = [_whole(value) for value in node.inputs], [_zeros(value) for value in node.inputs]
    if zeros.count(0) != 1 or None in wholes:
        return None
    source = wholes[zeros.index(0)]
    assert source is not None
    index = [(NOWHERE,) * len(whole.index) if nodes else whole.index for whole, nodes in zip(wholes, zeros, strict=True) if whole]
    return replace(source, index=tuple(channel for part in index for channel in part), nodes=1 + sum(zeros))


def _zeros(value: ir.Value) -> int:
    """The number of nodes that make a map of zeros whose size follows the batch; 0 if it is none."""
    node = value.producer()
    if node is None or node.op_type != "Expand":
        return 0
    array = ir.constant(node.inputs[0])
    if array is None or array.any():
        return 0
    count, before = 1, node.inputs[1].producer()
    while before is not None and before.op_type in ("Shape", "Slice") and ir.only_reader(before.outputs[0]) is not None:
        count, before = count + 1, before.inputs[0].producer()
    return count


_RULES = {"Slice": _slice, "Pad": _pad, "Gather": _gather, "Concat": _concat}
