"""What each ONNX operator becomes in a .tflite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from slimnet.errors import ExportError
from slimnet.onnx import graph
from slimnet.runtimes.tflite_file import Array, Held, Writer

Rule = Callable[[Writer, Any], None]
RULES: dict[str, Rule] = {}
"""Operator → what writes it."""
_FUSED = {"Relu": "RELU", "Clip": "RELU6"}
_LOWEST = np.float32(np.finfo(np.float32).min)


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register a function for operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, function))
        return function

    return register


def translate(writer: Writer, node: Any) -> None:
    """Write a node, unless all of it is known already, or another has it inside.

    Raises:
        ExportError: if there is no rule for it, or none for how it is used.
    """
    if node.outputs[0].name in writer.held or graph.constant(node.outputs[0]) is not None:
        return
    if node.op_type not in RULES or node.domain not in ("", "ai.onnx"):
        raise _unwritten(node, "has no rule")
    RULES[node.op_type](writer, node)


def _unwritten(node: Any, why: str) -> ExportError:
    return ExportError(f"{node.op_type} ({node.name or node.outputs[0].name}) {why} in slimnet.runtimes.tflite_rules.")


def _source(writer: Writer, node: Any, position: int = 0) -> Held:
    """An input that the network computes."""
    value = graph.argument(node, position)
    if value is None or value.name not in writer.held:
        raise _unwritten(node, "of constants is not written")
    return writer.held[value.name]


def _sizes(node: Any) -> list[int]:
    """Of the output, as ONNX has it; the batch as 1."""
    sizes = graph.shape(node.outputs[0])
    if not sizes or None in sizes[1:]:
        raise _unwritten(node, f"of sizes {sizes} is not written")
    return [1, *(size or 0 for size in sizes[1:])]


def _map_sizes(node: Any) -> list[int]:
    """The same of a map, turned."""
    sizes = _sizes(node)
    if len(sizes) != 4:
        raise _unwritten(node, f"of sizes {sizes} is not written")
    return [sizes[0], sizes[2], sizes[3], sizes[1]]


def _output(writer: Writer, node: Any, *, is_map: bool) -> Held:
    """A tensor for the output of a node."""
    made = writer.tensor(node.outputs[0].name, _map_sizes(node) if is_map else _sizes(node), is_map=is_map)
    writer.held[node.outputs[0].name] = made
    return made


def _fusable(writer: Writer, node: Any) -> tuple[str, Any]:
    """The activation that is the only one to read a node, which then gives that one's output; else the node itself."""
    reader = graph.only_reader(node.outputs[0])
    if reader is not None and reader.op_type in _FUSED and (reader.op_type == "Relu" or _bounds(reader) == (0, 6)):
        return _FUSED[reader.op_type], reader
    return "NONE", node


def _bounds(node: Any) -> tuple[float, float]:
    """Of a Clip."""
    ends = [graph.constant(graph.argument(node, i)) for i in (1, 2)]
    low, high = (None if end is None else float(end) for end in ends)
    return (-np.inf if low is None else low), (np.inf if high is None else high)


def _attribute(node: Any, name: str, default: Any) -> Any:
    found = graph.attribute(node, name, default)
    return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else found


def _padded(writer: Writer, node: Any, source: Held, kernel: list[int], fill: np.float32 | None = None) -> tuple[Held, str]:
    """The source with what a window needs around it, and SAME or VALID; ``fill``: by what, else zeros."""
    strides, dilations = _attribute(node, "strides", [1, 1]), _attribute(node, "dilations", [1, 1])
    if _attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise _unwritten(node, "with auto_pad is not written")
    pads = _attribute(node, "pads", [0, 0, 0, 0])
    if not any(pads):
        return source, "VALID"
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(source.shape[1:3], strides, spans, strict=True)]
    same = [*(total // 2 for total in totals), *(total - total // 2 for total in totals)]
    if pads == same:
        return source, "SAME"
    _, height, width, channels = source.shape
    sizes = [1, height + pads[0] + pads[2], width + pads[1] + pads[3], channels]
    around = np.array([[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]], np.int32)
    made = writer.tensor(f"{node.outputs[0].name}.padded", sizes, is_map=True)
    inputs = [source.index, writer.constant(f"{node.outputs[0].name}.pads", around)]
    if fill is None:
        writer.put("PAD", inputs, made.index, writer.options("Pad"))
    else:
        filled = writer.constant(f"{node.outputs[0].name}.fill", np.array([fill], np.float32))
        writer.put("PADV2", [*inputs, filled], made.index, writer.options("PadV2"))
    return made, "VALID"


@rule("Conv")
def _convolution(writer: Writer, node: Any) -> None:
    source, weight = _source(writer, node), graph.constant(node.inputs[1])
    if weight is None or weight.ndim != 4 or not source.is_map:
        raise _unwritten(node, "is written in two dimensions and with known weights alone, and others have no rule")
    given = graph.argument(node, 2)
    bias = np.zeros(len(weight), np.float32) if given is None else graph.known(given).astype(np.float32)
    padded, padding = _padded(writer, node, source, list(weight.shape[2:]))
    act, last = _fusable(writer, node)
    groups, name = _attribute(node, "group", 1), node.outputs[0].name
    strides, dilations = _attribute(node, "strides", [1, 1]), _attribute(node, "dilations", [1, 1])
    how = {
        "padding": getattr(writer.schema.Padding, padding),
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "fusedActivationFunction": writer.activation(act),
    }
    depthwise = groups > 1 and weight.shape[1] == 1 and groups == source.shape[3]
    turned = weight.transpose(1, 2, 3, 0) if depthwise else weight.transpose(0, 2, 3, 1)
    inputs = [padded.index, writer.weights(f"{name}.weight", turned), writer.constant(f"{name}.bias", bias)]
    output = _output(writer, last, is_map=True)
    writer.held[name] = output
    if depthwise:
        options = writer.options("DepthwiseConv2D", depthMultiplier=len(weight) // groups, **how)
        writer.put("DEPTHWISE_CONV_2D", inputs, output.index, options)
    else:
        writer.put("CONV_2D", inputs, output.index, writer.options("Conv2D", **how))


@rule("Gemm", "MatMul")
def _linear(writer: Writer, node: Any) -> None:
    source, weight = _source(writer, node), graph.constant(node.inputs[1])
    if weight is None or weight.ndim != 2 or len(source.shape) != 2 or _attribute(node, "transA", 0):
        raise _unwritten(node, "is written with known weights and of rows alone, and others have no rule")
    weight = (weight if _attribute(node, "transB", 0) else weight.T) * np.float32(_attribute(node, "alpha", 1.0))
    given, name = graph.argument(node, 2), node.outputs[0].name
    bias = np.zeros(len(weight), np.float32) if given is None else graph.known(given) * np.float32(_attribute(node, "beta", 1.0))
    bias = np.broadcast_to(bias.reshape(-1), (len(weight),)).astype(np.float32)
    act, last = _fusable(writer, node)
    inputs = [source.index, writer.weights(f"{name}.weight", weight), writer.constant(f"{name}.bias", bias)]
    output = _output(writer, last, is_map=False)
    writer.held[name] = output
    options = writer.options("FullyConnected", fusedActivationFunction=writer.activation(act))
    writer.put("FULLY_CONNECTED", inputs, output.index, options)


@rule("MaxPool", "AveragePool")
def _pool(writer: Writer, node: Any) -> None:
    source, kernel = _source(writer, node), _attribute(node, "kernel_shape", [])
    is_max, counted = node.op_type == "MaxPool", _attribute(node, "count_include_pad", 0)
    if len(kernel) != 2 or not source.is_map or _attribute(node, "dilations", [1, 1]) != [1, 1]:
        raise _unwritten(node, "is written in two dimensions and without dilation alone, and others have no rule")
    lowest = _LOWEST if is_max and not _never_negative(node.inputs[0]) else None
    padded, padding = _padded(writer, node, source, kernel, lowest)
    edges = padding == "SAME" if counted else padded is not source
    if not is_max and edges:  # TensorFlow's SAME leaves what is outside out of the mean, its PAD takes it in
        raise _unwritten(node, "with such padding has no rule")
    strides, sizes = _attribute(node, "strides", [1, 1]), _map_sizes(node)
    if padding == "VALID" and sizes[1:3] != [
        (n - k) // s + 1 for n, k, s in zip(padded.shape[1:3], kernel, strides, strict=True)
    ]:
        raise _unwritten(node, "with ceil_mode has no rule")
    options = writer.options(
        "Pool2D",
        padding=getattr(writer.schema.Padding, padding),
        strideH=strides[0],
        strideW=strides[1],
        filterHeight=kernel[0],
        filterWidth=kernel[1],
    )
    output = _output(writer, node, is_map=True)
    writer.put("MAX_POOL_2D" if is_max else "AVERAGE_POOL_2D", [padded.index], output.index, options)


def _never_negative(value: Any) -> bool:
    """Zeros beside it change no maximum: PAD, which XNNPACK runs, does for PADV2, which it does not."""
    maker = value.producer()
    return maker is not None and (maker.op_type == "Relu" or (maker.op_type == "Clip" and _bounds(maker)[0] >= 0))


@rule("GlobalAveragePool", "ReduceMean")
def _mean(writer: Writer, node: Any) -> None:
    source, axes = _source(writer, node), [2, 3]
    if node.op_type == "ReduceMean":
        axes = _attribute(node, "axes", None) or graph.integers(graph.argument(node, 1)) or []
    keep = bool(_attribute(node, "keepdims", 1))
    if not source.is_map or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise _unwritten(node, "is written over height and width alone, and others have no rule")
    output = _output(writer, node, is_map=keep)
    over = writer.constant(f"{node.outputs[0].name}.axes", np.array([1, 2], np.int32))
    writer.put("MEAN", [source.index, over], output.index, writer.options("Reducer", keepDims=keep))


@rule("Flatten", "Reshape", "Squeeze")
def _reshape(writer: Writer, node: Any) -> None:
    source, sizes = _source(writer, node), _sizes(node)
    if len(sizes) != 2:
        raise _unwritten(node, f"to {sizes} is not written: rows alone are")
    index, name = source.index, node.outputs[0].name
    if source.is_map and source.shape[1] * source.shape[2] > 1:  # ONNX counts (C, H, W)
        _, height, width, channels = source.shape
        turned = writer.tensor(f"{name}.turned", [1, channels, height, width], is_map=False)
        writer.put("TRANSPOSE", [index, writer.constant(f"{name}.order", np.array([0, 3, 1, 2], np.int32))], turned.index)
        index = turned.index
    output = _output(writer, node, is_map=False)
    to = writer.constant(f"{name}.sizes", np.array([-1, sizes[1]], np.int32))
    writer.put("RESHAPE", [index, to], output.index, writer.options("Reshape", newShape=[-1, sizes[1]]))


@rule("Add", "Mul", "Sub", "Div")
def _arithmetic(writer: Writer, node: Any) -> None:
    names = {"Add": "Add", "Mul": "Mul", "Sub": "Sub", "Div": "Div"}
    known = [graph.constant(value) for value in node.inputs]
    first = _source(writer, node, 0 if known[0] is None else 1)
    indices = []
    for position, array in enumerate(known):
        if array is not None:
            turned = _turned(node, array.astype(np.float32), first)
            indices.append(writer.constant(f"{node.outputs[0].name}.{position}", turned))
        else:
            source = _source(writer, node, position)
            if source.is_map != first.is_map:
                raise _unwritten(node, "of a map and of rows has no rule")
            indices.append(source.index)
    act, last = _fusable(writer, node)
    output = _output(writer, last, is_map=first.is_map)
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
        raise _unwritten(node, "of a constant with a batch has no rule")
    return full.transpose(0, 2, 3, 1)


@rule("BatchNormalization")
def _norm(writer: Writer, node: Any) -> None:
    source = _source(writer, node)
    gamma, beta, mean, variance = (graph.known(value) for value in node.inputs[1:5])
    scale = gamma / np.sqrt(variance + _attribute(node, "epsilon", 1e-5))
    name = node.outputs[0].name
    scaled = writer.tensor(f"{name}.scaled", source.shape, is_map=source.is_map)
    factor = writer.constant(f"{name}.scale", scale.astype(np.float32))
    writer.put("MUL", [source.index, factor], scaled.index, writer.options("Mul"))
    shift = writer.constant(f"{name}.shift", (beta - mean * scale).astype(np.float32))
    act, last = _fusable(writer, node)
    output = _output(writer, last, is_map=source.is_map)
    writer.held[name] = output
    writer.put("ADD", [scaled.index, shift], output.index, writer.options("Add", fusedActivationFunction=writer.activation(act)))


_PLAIN = {"Relu": "RELU", "Sigmoid": "LOGISTIC", "Tanh": "TANH", "HardSwish": "HARD_SWISH", "Elu": "ELU"}


@rule(*_PLAIN)
def _elementwise(writer: Writer, node: Any) -> None:
    source = _source(writer, node)
    writer.put(_PLAIN[node.op_type], [source.index], _output(writer, node, is_map=source.is_map).index)


@rule("LeakyRelu")
def _leaky(writer: Writer, node: Any) -> None:
    source = _source(writer, node)
    options = writer.options("LeakyRelu", alpha=float(_attribute(node, "alpha", 0.01)))
    writer.put("LEAKY_RELU", [source.index], _output(writer, node, is_map=source.is_map).index, options)


@rule("Clip")
def _clip(writer: Writer, node: Any) -> None:
    source, (low, high), name = _source(writer, node), _bounds(node), node.outputs[0].name
    if (low, high) == (0, 6):
        writer.put("RELU6", [source.index], _output(writer, node, is_map=source.is_map).index)
        return
    above = writer.tensor(f"{name}.above", source.shape, is_map=source.is_map)
    ends = [writer.constant(f"{name}.{i}", np.array([end], np.float32)) for i, end in enumerate((low, high))]
    writer.put("MAXIMUM", [source.index, ends[0]], above.index, writer.options("MaximumMinimum"))
    output = _output(writer, node, is_map=source.is_map)
    writer.put("MINIMUM", [above.index, ends[1]], output.index, writer.options("MaximumMinimum"))


@rule("HardSigmoid")
def _hard_sigmoid(writer: Writer, node: Any) -> None:
    """min(max(αx + β, 0), 1) as RELU6(6αx + 6β) / 6."""
    source, name = _source(writer, node), node.outputs[0].name
    numbers = [6 * _attribute(node, "alpha", 0.2), 6 * _attribute(node, "beta", 0.5), 1 / 6]
    alpha, beta, sixth = (writer.constant(f"{name}.{i}", np.array([value], np.float32)) for i, value in enumerate(numbers))
    scaled, bounded = (writer.tensor(f"{name}.{step}", source.shape, is_map=source.is_map) for step in ("scaled", "bounded"))
    writer.put("MUL", [source.index, alpha], scaled.index, writer.options("Mul"))
    shifted = writer.options("Add", fusedActivationFunction=writer.activation("RELU6"))
    writer.put("ADD", [scaled.index, beta], bounded.index, shifted)
    writer.put("MUL", [bounded.index, sixth], _output(writer, node, is_map=source.is_map).index, writer.options("Mul"))


@rule("Softmax")
def _softmax(writer: Writer, node: Any) -> None:
    source = _source(writer, node)
    if source.is_map or _attribute(node, "axis", -1) not in (-1, len(source.shape) - 1):
        raise _unwritten(node, "is written over the last dimension of rows alone, and others have no rule")
    writer.put("SOFTMAX", [source.index], _output(writer, node, is_map=False).index, writer.options("Softmax", beta=1.0))


@rule("Identity", "Dropout")
def _same(writer: Writer, node: Any) -> None:
    writer.held[node.outputs[0].name] = _source(writer, node)


@rule("Pad")
def _pad(writer: Writer, node: Any) -> None:
    source, around = _source(writer, node), graph.zero_padding(node)
    if around is None or not source.is_map:
        raise _unwritten(node, "is written with zeros and of maps alone, and others have no rule")
    pairs = list(zip(*around, strict=True))
    table = np.array([pairs[i] for i in (0, 2, 3, 1)], np.int32)
    pads = writer.constant(f"{node.outputs[0].name}.pads", table)
    writer.put("PAD", [source.index, pads], _output(writer, node, is_map=True).index, writer.options("Pad"))


@rule("Concat")
def _concat(writer: Writer, node: Any) -> None:
    sources = [_source(writer, node, i) for i in range(len(node.inputs))]
    axis, is_map = _attribute(node, "axis", 1) % len(sources[0].shape), sources[0].is_map
    if len({source.is_map for source in sources}) > 1 or axis == 0:
        raise _unwritten(node, "of a map and of rows, or of batches, has no rule")
    options = writer.options("Concatenation", axis=(0, 3, 1, 2)[axis] if is_map else axis)
    writer.put("CONCATENATION", [each.index for each in sources], _output(writer, node, is_map=is_map).index, options)


@rule("Slice")
def _slice(writer: Writer, node: Any) -> None:
    source, name = _source(writer, node), node.outputs[0].name
    starts, ends, axes, steps = (graph.integers(graph.argument(node, i)) for i in (1, 2, 3, 4))
    if not source.is_map or starts is None or ends is None or min(steps or [1]) < 1:
        raise _unwritten(node, "is written of maps, with known ends and forward alone, and others have no rule")
    chosen = axes or list(range(len(starts)))
    begin, end, stride = [0] * 4, list(source.shape), [1] * 4
    for axis, low, high, step in zip(chosen, starts, ends, steps or [1] * len(starts), strict=True):
        place = (0, 3, 1, 2)[axis % 4]
        size = source.shape[place]
        if place == 0:
            raise _unwritten(node, "of batches has no rule")
        begin[place], stride[place] = max(low + size if low < 0 else low, 0), step
        end[place] = min(high + size if high < 0 else high, size)
    lists = [writer.constant(f"{name}.{i}", np.array(each, np.int32)) for i, each in enumerate((begin, end, stride))]
    options = writer.options("StridedSlice", beginMask=1, endMask=1)
    writer.put("STRIDED_SLICE", [source.index, *lists], _output(writer, node, is_map=True).index, options)


@rule("Gather")
def _gather(writer: Writer, node: Any) -> None:
    source, indices = _source(writer, node), graph.constant(node.inputs[1])
    if not source.is_map or indices is None or indices.ndim != 1 or _attribute(node, "axis", 0) % 4 != 1:
        raise _unwritten(node, "is written of a map's channels alone, and others have no rule")
    order = writer.constant(f"{node.outputs[0].name}.order", indices.astype(np.int32))
    writer.put("GATHER", [source.index, order], _output(writer, node, is_map=True).index, writer.options("Gather", axis=3))
