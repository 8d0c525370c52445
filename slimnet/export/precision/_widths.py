"""Channels of zeros, so that convolutions have the widths that fast 8-bit kernels take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from slimnet.export.precision._groups import Array, Groups, attribute, channel_padding
from slimnet.export.precision._stem import Stem

STEP, LEAST = 4, 16
"""ONNX Runtime's direct 8-bit convolution on x86 reads multiples of 4 channels, and makes multiples of 4 from 16 up; the
depthwise one takes multiples of 16."""


@dataclass(frozen=True, eq=False)
class Widened:
    """A network with channels of zeros.

    Attributes:
        proto: the network.
        stem: what it has between its inputs and the convolutions that read them.
    """

    proto: onnx.ModelProto
    stem: Stem


def widened(proto: onnx.ModelProto, *, exclude: Sequence[str] = ()) -> Widened:
    """The same function, with as many channels as let 8-bit convolutions take ONNX Runtime's direct kernel.

    Any other convolution copies every patch of its input into a matrix, multiplies, and converts the result in a pass of its own.
    No layer has a weight for a channel of zeros, so that nothing changes. Convolutions that read an image get its planes in
    another form (:class:`Stem`). Channels stay as many where anything touches them that :class:`Groups` does not know.

    Args:
        proto: with norms folded and the sizes of its tensors; left as it is.
        exclude: names of layers that stay in float32: they read the network's input as it is.
    """
    wide = type(proto)()
    wide.CopyFrom(proto)
    groups = Groups(wide.graph)
    _fix_tight_moves(groups)
    constants = dict[str, Array]()
    for change, nodes in ((_layer, groups.layers), (_move, groups.moves), (_flatten, groups.flattens)):
        for node in nodes:
            constants |= change(node, groups)
    stem = _stem(wide.graph, [node for node in groups.layers if node.name not in exclude], constants)
    _put(wide.graph, stem.nodes, constants | stem.constants)
    return Widened(shape_inference.infer_shapes(wide, strict_mode=True), stem)


def _growth(groups: Groups, name: str) -> int:
    """Channels of zeros that a tensor gets."""
    channels = groups.channels(name)
    if channels is None:
        return 0
    step = LEAST if groups.meets_depthwise(name) else STEP
    return max(LEAST - channels, -channels % step)


def _fix_tight_moves(groups: Groups) -> None:
    """Leave channels as they are that would not fit any more where they are moved to."""
    while tight := [node for node in groups.moves if _behind(node, groups) < 0]:
        groups.fix(tight[0].input[0])


def _behind(node: onnx.NodeProto, groups: Groups) -> int:
    """Channels of zeros behind those that a node moves."""
    _, behind = channel_padding(node, groups.arrays) or (0, 0)
    return behind + _growth(groups, node.output[0]) - _growth(groups, node.input[0])


def _layer(node: onnx.NodeProto, groups: Groups) -> dict[str, Array]:
    """The constants of a layer; a depthwise one gets its groups, in place."""
    weight = groups.arrays[node.input[1]]
    rows, columns = weight.shape[:2]
    read, more = groups.channels(node.input[0]), _growth(groups, node.input[0])
    if node.op_type == "Gemm":
        return {node.input[1]: _with_zeros(weight, rows, columns + (columns // read * more if read else 0))}
    rows += _growth(groups, node.output[0])
    if attribute(node, "group", 1) == 1:
        columns += more
    else:
        next(entry for entry in node.attribute if entry.name == "group").i = rows
    return {name: _with_zeros(groups.arrays[name], rows, columns) for name in node.input[1:]}


def _move(node: onnx.NodeProto, groups: Groups) -> dict[str, Array]:
    """The padding of a move, as a constant of its own, in place."""
    sides = groups.arrays[node.input[1]].copy()
    sides[5] = _behind(node, groups)
    node.input[1] = f"{node.name}_sides"
    return {node.input[1]: sides}


def _flatten(node: onnx.NodeProto, groups: Groups) -> dict[str, Array]:
    """The sizes that a map is reshaped to, as a constant of its own, in place."""
    read = groups.channels(node.input[0])
    if node.op_type == "Flatten" or not read:
        return {}
    sizes = groups.arrays[node.input[1]].copy()
    sizes[1] += sizes[1] // read * _growth(groups, node.input[0])
    node.input[1] = f"{node.name}_sizes"
    return {node.input[1]: sizes}


def _stem(graph: onnx.GraphProto, layers: Sequence[onnx.NodeProto], constants: dict[str, Array]) -> Stem:
    """Attach the convolutions that read an input and can take the direct kernel, and change their weights, in place."""
    sizes = {entry.name: [dim.dim_value for dim in entry.type.tensor_type.shape.dim] for entry in graph.input}
    stem = Stem(sizes, STEP)
    for node in layers:
        weight = constants[node.input[1]]
        reads = node.op_type == "Conv" and attribute(node, "group", 1) == 1 and len(sizes.get(node.input[0], [])) == 4
        if reads and weight.shape[1] % STEP and len(weight) >= LEAST and not len(weight) % STEP:
            constants[node.input[1]] = stem.attach(node, weight)
    return stem


def _with_zeros(array: Array, *widths: int) -> Array:
    """An array with zeros behind, up to these sizes of its first axes."""
    sizes = (*widths[: array.ndim], *array.shape[len(widths) :])
    return np.pad(array, [(0, size - old) for size, old in zip(sizes, array.shape, strict=True)])


def _put(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Array]) -> None:
    """Give a graph nodes at its begin and constants, and take out what that leaves without use or wrong, in place."""
    nodes = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read and tensor.name not in constants]
    given = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *given])
    graph.ClearField("value_info")
