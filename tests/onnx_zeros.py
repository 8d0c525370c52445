"""Zeroes half of the filters of each layer of an ONNX file, with onnx and numpy alone: zeros as anybody may have left them.

What is zeroed with a filter: its bias (also where an ``Add`` behind adds it), and scale and shift of the norm behind. Layers
whose output is the network's, with nothing but element-wise operators between, are left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]
Mode = Literal["alone", "together", "constant"]
MODES: tuple[Mode, ...] = ("alone", "together", "constant")
"""``alone``: each layer draws its own half. ``together``: layers of one width close the same channels, so that all writers of a
stream agree. ``constant``: the same, but norms stay as they are: a closed channel is a constant, not zero."""
LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
MOVES = frozenset(("Identity", "Transpose", "Reshape", "Cast"))
"""What may lie between a stored weight and its layer."""


@dataclass
class Zeroed:
    """What was done.

    Attributes:
        model: the changed network.
        layers: outputs of the layers → numbers of the filters that are zero.
        skipped: outputs of the layers that were left alone → why.
    """

    model: onnx.ModelProto
    layers: dict[str, list[int]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def filters(self) -> int:
        return sum(len(channels) for channels in self.layers.values())


def zero_half(model: onnx.ModelProto, mode: Mode = "alone", seed: int = 0, share: float = 0.5) -> Zeroed:
    """A copy with a share of each layer's filters zeroed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = _Graph(copy)
    result = Zeroed(copy)
    source = np.random.default_rng(seed)
    done: dict[str, list[int]] = {}  # a tensor that several layers share is zeroed once
    for node in list(copy.graph.node):
        if node.op_type not in LAYERS:
            continue
        name, weight = node.output[0], graph.weight(node)
        if weight is None:
            result.skipped[name] = "its weight is computed"
        elif graph.reaches_output(name):
            result.skipped[name] = "the network's output"
        else:
            if weight.tensor not in done:
                drawn = np.random.default_rng(seed + weight.channels) if mode != "alone" else source
                chosen = drawn.permutation(weight.channels)[: int(weight.channels * share)]
                done[weight.tensor] = sorted(int(channel) for channel in chosen)
                weight.zero(done[weight.tensor])
            graph.zero_behind(node, done[weight.tensor], with_norms=mode != "constant")
            result.layers[name] = done[weight.tensor]
    return result


def zero_filters(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Output of each layer with a stored weight → its filters that are zero, and all of its filters."""
    graph = _Graph(model)
    found = {}
    for node in model.graph.node:
        weight = graph.weight(node) if node.op_type in LAYERS else None
        if weight is not None:
            rows = np.moveaxis(weight.value, weight.axis, 0) if weight.groups == 1 else weight.rows()
            found[node.output[0]] = (int((~rows.reshape(len(rows), -1).any(1)).sum()), len(rows))
    return found


@dataclass
class _Weight:
    """A layer's weight as the layer reads it."""

    graph: _Graph
    tensor: str
    moves: list[onnx.NodeProto]  # from the stored tensor to the layer
    value: Array
    axis: int
    groups: int = 1  # of a transposed convolution: (C, M / groups, …)

    @property
    def channels(self) -> int:
        return int(self.value.shape[self.axis]) * self.groups

    def rows(self) -> Array:
        """(channels, …)"""
        parts = self.value.reshape(self.groups, -1, *self.value.shape[1:])  # (groups, C / groups, M / groups, …)
        return np.moveaxis(parts, 2, 1).reshape(self.channels, -1)

    def zero(self, channels: list[int]) -> None:
        mask = np.ones(self.value.shape, bool)
        if self.groups == 1:
            np.moveaxis(mask, self.axis, 0)[channels] = False
        else:
            inside = self.value.shape[0] // self.groups
            for channel in channels:
                group, place = divmod(channel, self.value.shape[1])
                mask[group * inside : (group + 1) * inside, place] = False
        stored = self.graph.value(self.tensor)
        for move in reversed(self.moves):
            if move.op_type == "Transpose":
                perm = _attribute(move, "perm") or list(range(mask.ndim))[::-1]
                mask = mask.transpose(np.argsort(perm))
        self.graph.store(self.tensor, stored * mask.reshape(stored.shape).astype(stored.dtype))


def _attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    return next((onnx.helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


class _Graph:
    """Tensors by name, and who makes and reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.stored = {tensor.name: tensor for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        for node in self.graph.node:
            value = _attribute(node, "value") if node.op_type == "Constant" else None
            if value is not None:
                self.stored[node.output[0]] = next(each.t for each in node.attribute if each.name == "value")
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
        for node in self.graph.node:
            for place, name in enumerate(node.input):
                self.readers[name].append((node, place))

    def value(self, name: str) -> Array:
        return numpy_helper.to_array(self.stored[name])

    def store(self, name: str, value: Array) -> None:
        tensor = numpy_helper.from_array(np.ascontiguousarray(value), self.stored[name].name)
        self.stored[name].CopyFrom(tensor)

    def origin(self, name: str) -> tuple[str, list[onnx.NodeProto]] | None:
        """The stored tensor from which a value is made by moving alone, and the moves, the first first."""
        moves: list[onnx.NodeProto] = []
        while name not in self.stored:
            node = self.makers.get(name)
            if node is None or node.op_type not in MOVES:
                return None
            moves.insert(0, node)
            name = node.input[0]
        return name, moves

    def weight(self, node: onnx.NodeProto) -> _Weight | None:
        found = self.origin(node.input[1])
        if found is None:
            return None
        tensor, moves = found
        value = self.value(tensor)
        for move in moves:
            if move.op_type == "Transpose":
                value = value.transpose(_attribute(move, "perm") or None)
            if move.op_type == "Reshape":
                shape = self.value(move.input[1])
                value = value.reshape([value.shape[i] if size == 0 else size for i, size in enumerate(shape)])
        axis = {"Conv": 0, "ConvTranspose": 1, "MatMul": value.ndim - 1}.get(node.op_type, 0 if _attribute(node, "transB") else 1)
        groups = _attribute(node, "group", 1) if node.op_type == "ConvTranspose" else 1
        return _Weight(self, tensor, moves, value, axis, groups) if value.ndim > 1 else None

    def reaches_output(self, name: str) -> bool:
        """Whether a value comes to an output without passing a layer."""
        outputs, seen, todo = {value.name for value in self.graph.output}, set(), [name]
        while todo:
            name = todo.pop()
            if name in outputs:
                return True
            if name not in seen:
                seen.add(name)
                todo += [made for node, _ in self.readers[name] if node.op_type not in LAYERS for made in node.output]
        return False

    def zero_behind(self, node: onnx.NodeProto, channels: list[int], *, with_norms: bool) -> None:
        """Biases, and scales and shifts of norms, from a layer to the first operator that is neither."""
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.input) > 2 and node.input[2]:
            self._zero_vector(node, 2, channels)
        for reader, own in self._affine(node, with_norms=with_norms):
            for place in own:
                self._zero_vector(reader, place, channels)

    def _affine(self, node: onnx.NodeProto, *, with_norms: bool) -> Iterator[tuple[onnx.NodeProto, tuple[int, ...]]]:
        """Operators right behind a layer that scale and shift its channels, and which of their inputs do."""
        while len(self.readers[node.output[0]]) == 1:
            reader, place = self.readers[node.output[0]][0]
            if reader.op_type == "BatchNormalization" and with_norms:
                yield reader, (1, 2)
            elif reader.op_type in ("Add", "Mul") and self.origin(reader.input[1 - place]):
                if reader.op_type == "Add":
                    if not with_norms and node.op_type not in LAYERS | {"Transpose"}:
                        return  # a shift of what was scaled
                    yield reader, (1 - place,)
            elif reader.op_type not in ("Identity", "Transpose"):
                return
            node = reader

    def _zero_vector(self, node: onnx.NodeProto, place: int, channels: list[int]) -> None:
        """Zero some of a tensor with one value a channel; one that is used elsewhere too is copied first."""
        found = self.origin(node.input[place])
        if found is None:
            return
        name, moves = found
        value = self.value(name).copy()
        if value.size != max(value.shape, default=1) or value.size <= max(channels, default=0):
            return
        value.reshape(-1)[channels] = 0
        if moves or len(self.readers[name]) > 1:
            self.store_new(node, place, value if not moves else self._moved(value, moves))
        else:
            self.store(name, value)

    def _moved(self, value: Array, moves: list[onnx.NodeProto]) -> Array:
        for move in moves:
            if move.op_type == "Reshape":
                value = value.reshape(self.value(move.input[1]))
            if move.op_type == "Transpose":
                value = value.transpose(_attribute(move, "perm") or None)
        return value

    def store_new(self, node: onnx.NodeProto, place: int, value: Array) -> None:
        name = f"{node.input[place]}_zeroed_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        self.stored[name] = self.graph.initializer[-1]
        node.input[place] = name
        self.readers[name].append((node, place))


Zeroing = Callable[[onnx.ModelProto], Zeroed]
