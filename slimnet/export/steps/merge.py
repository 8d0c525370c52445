"""The same movement of channels in fewer nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from slimnet.export.steps.moves import NOWHERE, Movement, movements
from slimnet.onnx import graph as ir


def merge_movements(model: Any) -> int:
    """Say every movement of channels in the fewest nodes: one ``Slice``, then one ``Pad``, then one ``Gather``, in place.

    Returns:
        How many chains became shorter.
    """
    found = [(node, movement) for node, movement in movements(model) if _nodes(movement) < movement.nodes]
    for node, movement in found:
        write_movement(model.graph, node, movement)
    return len(found)


def _nodes(movement: Movement) -> int:
    """The number that are needed."""
    gathered, zeros = movement.padding is None, NOWHERE in movement.index
    return (movement.strides != (1, 1)) + zeros + gathered


def write_movement(graph: Any, last: ir.Node, movement: Movement) -> None:
    """Put the nodes that are needed in the place of the last node of a chain, in place."""
    value, name, padding = movement.source, last.outputs[0].name, movement.padding
    before, behind = padding if padding is not None else (0, int(NOWHERE in movement.index))
    if movement.strides != (1, 1):
        parts = {"starts": [0, 0], "ends": [np.iinfo(np.int64).max] * 2, "axes": [2, 3], "steps": movement.strides}
        inputs = [ir.initializer(graph, f"{name}_{key}", np.array(array, np.int64)) for key, array in parts.items()]
        value = ir.insert(graph, last, "Slice", [value, *inputs], sizes=_sizes(movement.channels))
    if before or behind:
        pads = ir.initializer(graph, f"{name}_pads", np.array([0, before, 0, 0, 0, behind, 0, 0], np.int64))
        value = ir.insert(graph, last, "Pad", [value, pads], sizes=_sizes(movement.channels + before + behind))
    if padding is None:
        index = np.array([movement.channels if channel == NOWHERE else channel for channel in movement.index], np.int64)
        given = ir.initializer(graph, f"{name}_index", index)
        value = ir.insert(graph, last, "Gather", [value, given], sizes=_sizes(len(index)), axis=1)
    ir.redirect(graph, last, value)


def _sizes(channels: int) -> ir.Sizes:
    return None, channels, None, None
