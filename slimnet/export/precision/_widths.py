"""Channels of zeros, so that convolutions have the widths that fast 8-bit kernels take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from slimnet.export.precision._groups import Groups, channel_padding
from slimnet.export.precision._stem import Stem
from slimnet.onnx import graph as ir
from slimnet.onnx.graph import Array, Graph, Node, Value

STEP, LEAST = 4, 16
"""ONNX Runtime's direct 8-bit convolution on x86 reads multiples of 4 channels, and makes multiples of 4 from 16 up; the
depthwise one takes multiples of 16."""


@dataclass(frozen=True)
class Widened:
    """A network with channels of zeros.

    Attributes:
        data: the ONNX file.
        stem: names of the nodes between its inputs and the convolutions that read them.
        images: tensor that these give → the input whose numbers it holds, zeros beside them; by name.
    """

    data: bytes
    stem: tuple[str, ...] = ()
    images: dict[str, str] = field(default_factory=dict)


def widened(data: bytes, *, exclude: Sequence[str] = ()) -> Widened:
    """The same function, with as many channels as let 8-bit convolutions take ONNX Runtime's direct kernel.

    Any other convolution copies every patch of its input into a matrix, multiplies, and converts the result in a pass of its own.
    No layer has a weight for a channel of zeros, so that nothing changes. Convolutions that read an image get its planes in
    another form (:class:`Stem`). Channels stay as many where anything touches them that :class:`Groups` does not know.

    Args:
        data: an ONNX file with norms folded and the sizes of its tensors.
        exclude: names of layers that stay in float32: they read the network's input as it is, and channels stay as many that
            nothing but such layers makes and reads.
    """
    model = ir.read(data)
    groups = Groups(model.graph)
    groups.fix_between(exclude)
    _fix_tight_moves(groups)
    for change, nodes in ((_layer, groups.layers), (_move, groups.moves), (_flatten, groups.flattens)):
        for node in nodes:
            change(model.graph, node, groups)
    stem = _stem(model.graph, [node for node in groups.layers if node.name not in exclude])
    return Widened(ir.sized(model), tuple(stem.nodes), stem.images)


def _growth(groups: Groups, value: Value) -> int:
    """Channels of zeros that a tensor gets."""
    channels = groups.channels(value)
    if channels is None:
        return 0
    step = LEAST if groups.meets_depthwise(value) else STEP
    return max(LEAST - channels, -channels % step)


def _fix_tight_moves(groups: Groups) -> None:
    """Leave channels as they are that would not fit any more where they are moved to."""
    while tight := [node for node in groups.moves if _behind(node, groups) < 0]:
        groups.fix(tight[0].inputs[0])


def _behind(node: Node, groups: Groups) -> int:
    """Channels of zeros behind those that a node moves."""
    _, behind = channel_padding(node) or (0, 0)
    return behind + _growth(groups, node.outputs[0]) - _growth(groups, node.inputs[0])


def _layer(graph: Graph, node: Node, groups: Groups) -> None:
    """Widen the constants of a layer, in place; a depthwise one gets its groups."""
    weight, *biases = [(value, ir.known(value)) for value in node.inputs[1:]]
    rows, columns = weight[1].shape[:2]
    read, more = groups.channels(node.inputs[0]), _growth(groups, node.inputs[0])
    if node.op_type == "Gemm":
        ir.put_constant(graph, weight[0], _with_zeros(weight[1], rows, columns + (columns // read * more if read else 0)))
        return
    rows += _growth(groups, node.outputs[0])
    if ir.attribute(node, "group", 1) == 1:
        columns += more
    else:
        ir.set_attribute(node, "group", rows)
    for value, array in (weight, *biases):
        ir.put_constant(graph, value, _with_zeros(array, rows, columns))


def _move(graph: Graph, node: Node, groups: Groups) -> None:
    """Give a move its padding, as a constant of its own, in place."""
    sides = ir.known(node.inputs[1]).copy()
    sides[5] = _behind(node, groups)
    node.replace_input_with(1, ir.new_constant(graph, f"{node.name}_sides", sides))


def _flatten(graph: Graph, node: Node, groups: Groups) -> None:
    """Give a map the sizes that it is reshaped to, as a constant of its own, in place."""
    read = groups.channels(node.inputs[0])
    if node.op_type == "Flatten" or not read:
        return
    sizes = ir.known(node.inputs[1]).copy()
    sizes[1] += sizes[1] // read * _growth(groups, node.inputs[0])
    node.replace_input_with(1, ir.new_constant(graph, f"{node.name}_sizes", sizes))


def _stem(graph: Graph, layers: Sequence[Node]) -> Stem:
    """Attach the convolutions that read an image and can take the direct kernel, in place."""
    stem = Stem(graph, STEP)
    for node in layers:
        image, (rows, columns) = node.inputs[0], ir.known(node.inputs[1]).shape[:2]
        is_plain = node.op_type == "Conv" and ir.attribute(node, "group", 1) == 1 and len(ir.shape(image) or ()) == 4
        if is_plain and image.is_graph_input() and columns % STEP and rows >= LEAST and not rows % STEP:
            stem.attach(node)
    return stem


def _with_zeros(array: Array, *widths: int) -> Array:
    """An array with zeros behind, up to these sizes of its first axes."""
    sizes = (*widths[: array.ndim], *array.shape[len(widths) :])
    return np.pad(array, [(0, size - old) for size, old in zip(sizes, array.shape, strict=True)])
