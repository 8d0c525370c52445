"""What was done to the module, done to the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from slimnet.onnx.rewrite import Changes, rewritten
from slimnet.onnx_surgery.modules import ChannelPad, Reshape
from slimnet.onnx_surgery.reading import Place, Reading
from slimnet.surgery.modules import Constant


def written(reading: Reading, small: nn.Module) -> Any:
    """The file with the tensors of a slim module: an ``onnx.ModelProto`` of the same names, opset, metadata and interface.

    Args:
        reading: the file.
        small: its module after surgery, or with other weights.
    """
    return rewritten(reading.document, changes_of(reading, small))


def changes_of(reading: Reading, small: nn.Module) -> Changes:
    """How a module differs from what was read, in terms of the file."""
    changes = Changes()
    for place in reading.model.places:
        before, after = reading.model.get_submodule(place.path), small.get_submodule(place.path)
        if isinstance(after, Constant):
            changes.replaced[place.outputs[0]] = after.value.detach().cpu().numpy()
        elif type(after) is type(before):
            _note_tensors(changes, place, before, after)
            _note_counts(changes, place, before, after, reading)
    return changes


def _note_tensors(changes: Changes, place: Place, before: nn.Module, after: nn.Module) -> None:
    for name, origin in place.origins.items():
        old, new = getattr(before, name, None), getattr(after, name, None)
        if new is None or (old is not None and old.shape == new.shape and torch.equal(old, new)):
            continue
        array = origin.written(new)
        if origin.position < 0:
            changes.added[place.outputs[0]] = array
        else:
            changes.constants[place.op.index, origin.position] = array
    changed = any(index == place.op.index for index, _ in changes.constants)
    if changed and place.attributes:  # all of its tensors are written as they are multiplied
        changes.attributes[place.op.index] = dict(place.attributes)
        for name, origin in place.origins.items():
            if getattr(after, name, None) is not None:
                changes.constants[place.op.index, origin.position] = origin.written(getattr(after, name))


def _note_counts(changes: Changes, place: Place, before: nn.Module, after: nn.Module, reading: Reading) -> None:
    """Numbers of channels that nodes hold beside their weights."""
    if getattr(before, "groups", 1) != getattr(after, "groups", 1):
        changes.attributes[place.op.index] = {"group": after.groups}
    if isinstance(before, ChannelPad) and isinstance(after, ChannelPad) and before.pads != after.pads:
        if len(place.op.inputs) > 1:
            changes.constants[place.op.index, 1] = np.asarray(after.pads, dtype=np.int64)
        else:
            changes.attributes[place.op.index] = {"pads": after.pads}
    if isinstance(after, Reshape) and after.template is not None:
        held = reading.program.constants.get(place.op.inputs[1])
        if held is None or held.tolist() != after.template:
            changes.constants[place.op.index, 1] = np.asarray(after.template, dtype=np.int64)
            if place.op.get("allowzero", 0):
                changes.attributes[place.op.index] = {"allowzero": 0}
