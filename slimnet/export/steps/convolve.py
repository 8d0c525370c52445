"""Movements of channels as rows of a convolution: more multiply-adds, but no change of memory layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from slimnet.export.steps.moves import NOWHERE, Movement, movements
from slimnet.onnx import graph as ir

FEW = 0.02
"""Share of a network's multiply-adds that a shortcut may add, to keep a stage's stream in the blocked layout."""


def shortcuts_by_convolution(model: Any) -> int:
    """Move the channels of a shortcut that also skips places by a 1×1 convolution whose weights are 0 and 1, in place.

    A convolution keeps ONNX Runtime's blocked layout and takes the addition and the activation behind it along; ``Slice``,
    ``Pad`` and ``Gather`` do neither, and cost a change of layout on either side, not only here: the stream that begins with the
    addition stays in the plain layout to its end, with all the additions to it. It adds multiply-adds, C_in · C_out a place:
    a shortcut is left alone where they are more than a share, :data:`FEW`, of those of all convolutions, or sizes are open. Exact
    for finite numbers; an infinite one would spread to all channels.

    Returns:
        How many shortcuts were replaced.
    """
    most = FEW * sum(_multiply_adds(node) for node in model.graph if node.op_type == "Conv")
    skipping = [(node, movement) for node, movement in movements(model) if movement.strides != (1, 1)]
    return _convolved(model, [(node, movement) for node, movement in skipping if 0 < _added(node, movement) <= most])


def select_by_convolution(model: Any) -> int:
    """The same for all other movements of channels that end in an addition, in place: it pays for some widths only.

    Returns:
        How many movements were replaced.
    """
    return _convolved(model, movements(model))


def _multiply_adds(conv: ir.Node) -> int:
    """Of a convolution, for one image; 0 where its sizes are not known."""
    sizes, weight = ir.sizes_of_map(conv.outputs[0]), ir.constant(conv.inputs[1])
    return 0 if sizes is None or weight is None else weight.size * sizes[1] * sizes[2]


def _added(node: ir.Node, movement: Movement) -> int:
    """What a movement would take as a convolution."""
    sizes = ir.sizes_of_map(node.outputs[0])
    return 0 if sizes is None else movement.channels * len(movement.index) * sizes[1] * sizes[2]


def _convolved(model: Any, chosen: Sequence[tuple[ir.Node, Movement]]) -> int:
    found = [(node, movement) for node, movement in chosen if _is_added(node)]
    for node, movement in found:
        weight = _rows(np.eye(movement.channels, dtype=np.float32)[:, :, None, None], movement)
        given = ir.initializer(model.graph, f"{node.outputs[0].name}_weight", weight)
        sizes = None, len(movement.index), None, None
        settings = {"kernel_shape": [1, 1], "strides": list(movement.strides)}
        value = ir.insert(model.graph, node, "Conv", [movement.source, given], sizes=sizes, **settings)
        ir.redirect(model.graph, node, value)
    return len(found)


def _is_added(node: ir.Node) -> bool:
    reader = ir.only_reader(node.outputs[0])
    return reader is not None and reader.op_type == "Add"


def restore_zero_rows(model: Any) -> int:
    """Give convolutions whose live channels are put back among zeros their zero filters again, in place.

    The opposite of the surgeon's ``expand``, for where the filters cost less than moving what the live ones give.

    Returns:
        How many convolutions, of one convolution group and read by nobody else, grew.
    """
    found = [(node, movement) for node, movement in movements(model) if _follows_convolution(movement)]
    for node, movement in found:
        conv = movement.source.producer()
        arrays = [_rows(ir.constant(value), movement) for value in conv.inputs[1:] if value is not None]
        names = [f"{node.outputs[0].name}_{kind}" for kind in ("weight", "bias")[: len(arrays)]]
        given = [ir.initializer(model.graph, name, array) for name, array in zip(names, arrays, strict=True)]
        sizes = None, len(movement.index), None, None
        value = ir.insert(model.graph, node, "Conv", [conv.inputs[0], *given], sizes=sizes, **conv.attributes)
        ir.redirect(model.graph, node, value)
    return len(found)


def _follows_convolution(movement: Movement) -> bool:
    conv = movement.source.producer()
    if conv is None or conv.op_type != "Conv" or ir.attribute(conv, "group", 1) != 1 or movement.strides != (1, 1):
        return False
    constants = [ir.constant(value) for value in conv.inputs[1:] if value is not None]
    return ir.only_reader(movement.source) is not None and all(array is not None for array in constants)


def _rows(array: ir.Array | None, movement: Movement) -> ir.Array:
    assert array is not None
    rows = np.zeros((len(movement.index), *array.shape[1:]), array.dtype)
    for place, channel in enumerate(movement.index):
        if channel != NOWHERE:
            rows[place] = array[channel]
    return rows
