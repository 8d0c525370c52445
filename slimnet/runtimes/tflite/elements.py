"""What is done element by element, and what moves elements about."""

from __future__ import annotations

from typing import Any

import numpy as np

from slimnet.onnx import graph
from slimnet.runtimes.tflite.file import Array, Held, Writer
from slimnet.runtimes.tflite.rules import attribute, bounds, fusable, output_of, rule, sizes_of, source_of, unwritten


@rule("Flatten", "Reshape", "Squeeze")
def _reshape(writer: Writer, node: Any) -> None:
    source, sizes = source_of(writer, node), sizes_of(node)
    if len(sizes) != 2:
        raise unwritten(node, f"to {sizes} is not written: rows alone are")
    index, name = source.index, node.outputs[0].name
    if source.is_map and source.shape[1] * source.shape[2] > 1:  # ONNX counts (C, H, W)
        _, height, width, channels = source.shape
        turned = writer.tensor(f"{name}.turned", [1, channels, height, width], is_map=False)
        writer.put("TRANSPOSE", [index, writer.constant(f"{name}.order", np.array([0, 3, 1, 2], np.int32))], turned.index)
        index = turned.index
    output = output_of(writer, node, is_map=False)
    to = writer.constant(f"{name}.sizes", np.array([-1, sizes[1]], np.int32))
    writer.put("RESHAPE", [index, to], output.index, writer.options("Reshape", newShape=[-1, sizes[1]]))


@rule("Add", "Mul", "Sub", "Div")
def _arithmetic(writer: Writer, node: Any) -> None:
    names = {"Add": "Add", "Mul": "Mul", "Sub": "Sub", "Div": "Div"}
    known = [graph.constant(value) for value in node.inputs]
    first = source_of(writer, node, 0 if known[0] is None else 1)
    indices = []
    for position, array in enumerate(known):
        if array is not None:
            turned = _turned(node, array.astype(np.float32), first)
            indices.append(writer.constant(f"{node.outputs[0].name}.{position}", turned))
        else:
            source = source_of(writer, node, position)
            if source.is_map != first.is_map:
                raise unwritten(node, "of a map and of rows has no rule")
            indices.append(source.index)
    act, last = fusable(writer, node)
    output = output_of(writer, last, is_map=first.is_map)
    writer.held[node.outputs[0].name] = output
    options = writer.options(names[node.op_type], fusedActivationFunction=writer.activation(act))
    writer.put(node.op_type.upper(), indices, output.index, options)


def _turned(node: Any, array: Array, beside: Held) -> Array:
    """A constant as it stands beside a map, or beside rows."""
    if array.size == 1:
        return array.reshape(1)
    if not beside.is_map:
        return array
    full = array.reshape((1,) * (4 - array.ndim) + array.shape)
    if len(full) != 1:
        raise unwritten(node, "of a constant with a batch has no rule")
    return full.transpose(0, 2, 3, 1)


@rule("BatchNormalization")
def _norm(writer: Writer, node: Any) -> None:
    source = source_of(writer, node)
    gamma, beta, mean, variance = (graph.known(value) for value in node.inputs[1:5])
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    name = node.outputs[0].name
    scaled = writer.tensor(f"{name}.scaled", source.shape, is_map=source.is_map)
    factor = writer.constant(f"{name}.scale", scale.astype(np.float32))
    writer.put("MUL", [source.index, factor], scaled.index, writer.options("Mul"))
    shift = writer.constant(f"{name}.shift", (beta - mean * scale).astype(np.float32))
    act, last = fusable(writer, node)
    output = output_of(writer, last, is_map=source.is_map)
    writer.held[name] = output
    writer.put("ADD", [scaled.index, shift], output.index, writer.options("Add", fusedActivationFunction=writer.activation(act)))


_PLAIN = {"Relu": "RELU", "Sigmoid": "LOGISTIC", "Tanh": "TANH", "HardSwish": "HARD_SWISH", "Elu": "ELU"}


@rule(*_PLAIN)
def _elementwise(writer: Writer, node: Any) -> None:
    source = source_of(writer, node)
    writer.put(_PLAIN[node.op_type], [source.index], output_of(writer, node, is_map=source.is_map).index)


@rule("LeakyRelu")
def _leaky(writer: Writer, node: Any) -> None:
    source = source_of(writer, node)
    options = writer.options("LeakyRelu", alpha=float(attribute(node, "alpha", 0.01)))
    writer.put("LEAKY_RELU", [source.index], output_of(writer, node, is_map=source.is_map).index, options)


@rule("Clip")
def _clip(writer: Writer, node: Any) -> None:
    source, (low, high), name = source_of(writer, node), bounds(node), node.outputs[0].name
    if (low, high) == (0, 6):
        writer.put("RELU6", [source.index], output_of(writer, node, is_map=source.is_map).index)
        return
    above = writer.tensor(f"{name}.above", source.shape, is_map=source.is_map)
    ends = [writer.constant(f"{name}.{i}", np.array([end], np.float32)) for i, end in enumerate((low, high))]
    writer.put("MAXIMUM", [source.index, ends[0]], above.index, writer.options("MaximumMinimum"))
    output = output_of(writer, node, is_map=source.is_map)
    writer.put("MINIMUM", [above.index, ends[1]], output.index, writer.options("MaximumMinimum"))


@rule("HardSigmoid")
def _hard_sigmoid(writer: Writer, node: Any) -> None:
    """min(max(αx + β, 0), 1) as RELU6(6αx + 6β) / 6."""
    source, name = source_of(writer, node), node.outputs[0].name
    numbers = [6 * attribute(node, "alpha", 0.2), 6 * attribute(node, "beta", 0.5), 1 / 6]
    alpha, beta, sixth = (writer.constant(f"{name}.{i}", np.array([value], np.float32)) for i, value in enumerate(numbers))
    scaled, bounded = (writer.tensor(f"{name}.{step}", source.shape, is_map=source.is_map) for step in ("scaled", "bounded"))
    writer.put("MUL", [source.index, alpha], scaled.index, writer.options("Mul"))
    shifted = writer.options("Add", fusedActivationFunction=writer.activation("RELU6"))
    writer.put("ADD", [scaled.index, beta], bounded.index, shifted)
    writer.put("MUL", [bounded.index, sixth], output_of(writer, node, is_map=source.is_map).index, writer.options("Mul"))


@rule("Softmax")
def _softmax(writer: Writer, node: Any) -> None:
    source = source_of(writer, node)
    if source.is_map or attribute(node, "axis", -1) not in (-1, len(source.shape) - 1):
        raise unwritten(node, "is written over the last dimension of rows alone, and others have no rule")
    writer.put("SOFTMAX", [source.index], output_of(writer, node, is_map=False).index, writer.options("Softmax", beta=1.0))


@rule("Identity", "Dropout")
def _same(writer: Writer, node: Any) -> None:
    writer.held[node.outputs[0].name] = source_of(writer, node)


@rule("Pad")
def _pad(writer: Writer, node: Any) -> None:
    source, around = source_of(writer, node), graph.zero_padding(node)
    if around is None or not source.is_map:
        raise unwritten(node, "is written with zeros and of maps alone, and others have no rule")
    pairs = list(zip(*around, strict=True))
    table = np.array([pairs[i] for i in (0, 2, 3, 1)], np.int32)
    pads = writer.constant(f"{node.outputs[0].name}.pads", table)
    writer.put("PAD", [source.index, pads], output_of(writer, node, is_map=True).index, writer.options("Pad"))


@rule("Concat")
def _concat(writer: Writer, node: Any) -> None:
    sources = [source_of(writer, node, i) for i in range(len(node.inputs))]
    axis, is_map = attribute(node, "axis", 1) % len(sources[0].shape), sources[0].is_map
    if len({source.is_map for source in sources}) > 1 or axis == 0:
        raise unwritten(node, "of a map and of rows, or of batches, has no rule")
    options = writer.options("Concatenation", axis=(0, 3, 1, 2)[axis] if is_map else axis)
    writer.put("CONCATENATION", [each.index for each in sources], output_of(writer, node, is_map=is_map).index, options)


@rule("Slice")
def _slice(writer: Writer, node: Any) -> None:
    source, name = source_of(writer, node), node.outputs[0].name
    starts, ends, axes, steps = (graph.integers(graph.argument(node, i)) for i in (1, 2, 3, 4))
    if not source.is_map or starts is None or ends is None or min(steps or [1]) < 1:
        raise unwritten(node, "is written of maps, with known ends and forward alone, and others have no rule")
    chosen = axes or list(range(len(starts)))
    begin, end, stride = [0] * 4, list(source.shape), [1] * 4
    for axis, low, high, step in zip(chosen, starts, ends, steps or [1] * len(starts), strict=True):
        place = (0, 3, 1, 2)[axis % 4]
        size = source.shape[place]
        if place == 0:
            raise unwritten(node, "of batches has no rule")
        begin[place], stride[place] = max(low + size if low < 0 else low, 0), step
        end[place] = min(high + size if high < 0 else high, size)
    lists = [writer.constant(f"{name}.{i}", np.array(each, np.int32)) for i, each in enumerate((begin, end, stride))]
    options = writer.options("StridedSlice", beginMask=1, endMask=1)
    writer.put("STRIDED_SLICE", [source.index, *lists], output_of(writer, node, is_map=True).index, options)


@rule("Gather")
def _gather(writer: Writer, node: Any) -> None:
    source, indices = source_of(writer, node), graph.constant(node.inputs[1])
    if not source.is_map or indices is None or indices.ndim != 1 or attribute(node, "axis", 0) % 4 != 1:
        raise unwritten(node, "is written of a map's channels alone, and others have no rule")
    order = writer.constant(f"{node.outputs[0].name}.order", indices.astype(np.int32))
    writer.put("GATHER", [source.index, order], output_of(writer, node, is_map=True).index, writer.options("Gather", axis=3))
