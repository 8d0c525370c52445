"""The same movement of channels in fewer nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from slimnet.export.steps import _ir
from slimnet.export.steps.moves import NOWHERE, Movement, movements


def merge_movements(model: Any) -> int:
    """Say every movement of channels in the fewest nodes: one ``Slice``, then one ``Pad``, then one ``Gather``, in place.

    Returns:
        How many chains became shorter.
    """
    shorter = 0
    for node, movement in movements(model):
        padding = movement.padding
        gathered = padding is None
        added = padding if padding is not None else (0, int(NOWHERE in movement.index))
        if (movement.strides != (1, 1)) + any(added) + gathered >= movement.nodes:
            continue
        _write(model.graph, node, movement, added, gathered=gathered)
        shorter += 1
    return shorter


def _write(graph: Any, last: _ir.Node, movement: Movement, added: tuple[int, int], *, gathered: bool) -> None:
    value = movement.source
    name = last.outputs[0].name
    if movement.strides != (1, 1):
        parts = {"starts": [0, 0], "ends": [np.iinfo(np.int64).max] * 2, "axes": [2, 3], "steps": movement.strides}
        inputs = [_ir.initializer(graph, f"{name}_{key}", np.array(array, np.int64)) for key, array in parts.items()]
        value = _ir.insert(graph, last, "Slice", [value, *inputs], sizes=_sizes(movement.channels))
    if any(added):
        pads = _ir.initializer(graph, f"{name}_pads", np.array([0, added[0], 0, 0, 0, added[1], 0, 0], np.int64))
        value = _ir.insert(graph, last, "Pad", [value, pads], sizes=_sizes(movement.channels + sum(added)))
    if gathered:
        index = np.array([movement.channels if channel == NOWHERE else channel for channel in movement.index], np.int64)
        given = _ir.initializer(graph, f"{name}_index", index)
        value = _ir.insert(graph, last, "Gather", [value, given], sizes=_sizes(len(index)), axis=1)
    _ir.redirect(graph, last, value)


def _sizes(channels: int) -> _ir.Sizes:
    return None, channels, None, None
