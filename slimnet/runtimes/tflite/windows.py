"""Layers with weights, and windows: convolutions, linear layers, pools, means."""

from __future__ import annotations

from typing import Any

import numpy as np

from slimnet.onnx import graph
from slimnet.runtimes.tflite.file import Held, Writer
from slimnet.runtimes.tflite.rules import attribute, bounds, fusable, map_sizes, output_of, rule, source_of, unwritten

_LOWEST = np.float32(np.finfo(np.float32).min)


def _padded(writer: Writer, node: Any, source: Held, kernel: list[int], fill: np.float32 | None = None) -> tuple[Held, str]:
    """The source with what a window needs around it, and SAME or VALID; ``fill``: by what, else zeros."""
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise unwritten(node, "with auto_pad is not written")
    pads = attribute(node, "pads", [0, 0, 0, 0])
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
    source, weight = source_of(writer, node), graph.constant(node.inputs[1])
    if weight is None or weight.ndim != 4 or not source.is_map:
        raise unwritten(node, "is written in two dimensions and with known weights alone, and others have no rule")
    given = graph.argument(node, 2)
    bias = np.zeros(len(weight), np.float32) if given is None else graph.known(given).astype(np.float32)
    padded, padding = _padded(writer, node, source, list(weight.shape[2:]))
    act, last = fusable(writer, node)
    groups, name = attribute(node, "group", 1), node.outputs[0].name
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
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
    output = output_of(writer, last, is_map=True)
    writer.held[name] = output
    if depthwise:
        options = writer.options("DepthwiseConv2D", depthMultiplier=len(weight) // groups, **how)
        writer.put("DEPTHWISE_CONV_2D", inputs, output.index, options)
    else:
        writer.put("CONV_2D", inputs, output.index, writer.options("Conv2D", **how))


@rule("Gemm", "MatMul")
def _linear(writer: Writer, node: Any) -> None:
    source, weight = source_of(writer, node), graph.constant(node.inputs[1])
    if weight is None or weight.ndim != 2 or len(source.shape) != 2 or attribute(node, "transA", 0):
        raise unwritten(node, "is written with known weights and of rows alone, and others have no rule")
    weight = (weight if attribute(node, "transB", 0) else weight.T) * np.float32(attribute(node, "alpha", 1.0))
    given, name = graph.argument(node, 2), node.outputs[0].name
    bias = np.zeros(len(weight), np.float32) if given is None else graph.known(given) * np.float32(attribute(node, "beta", 1.0))
    bias = np.broadcast_to(bias.reshape(-1), (len(weight),)).astype(np.float32)
    act, last = fusable(writer, node)
    inputs = [source.index, writer.weights(f"{name}.weight", weight), writer.constant(f"{name}.bias", bias)]
    output = output_of(writer, last, is_map=False)
    writer.held[name] = output
    options = writer.options("FullyConnected", fusedActivationFunction=writer.activation(act))
    writer.put("FULLY_CONNECTED", inputs, output.index, options)


@rule("MaxPool", "AveragePool")
def _pool(writer: Writer, node: Any) -> None:
    source, kernel = source_of(writer, node), attribute(node, "kernel_shape", [])
    is_max, counted = node.op_type == "MaxPool", attribute(node, "count_include_pad", 0)
    if len(kernel) != 2 or not source.is_map or attribute(node, "dilations", [1, 1]) != [1, 1]:
        raise unwritten(node, "is written in two dimensions and without dilation alone, and others have no rule")
    lowest = _LOWEST if is_max and not _never_negative(node.inputs[0]) else None
    padded, padding = _padded(writer, node, source, kernel, lowest)
    edges = padding == "SAME" if counted else padded is not source
    if not is_max and edges:  # TensorFlow's SAME leaves what is outside out of the mean, its PAD takes it in
        raise unwritten(node, "with such padding has no rule")
    strides, sizes = attribute(node, "strides", [1, 1]), map_sizes(node)
    if padding == "VALID" and sizes[1:3] != [
        (n - k) // s + 1 for n, k, s in zip(padded.shape[1:3], kernel, strides, strict=True)
    ]:
        raise unwritten(node, "with ceil_mode has no rule")
    options = writer.options(
        "Pool2D",
        padding=getattr(writer.schema.Padding, padding),
        strideH=strides[0],
        strideW=strides[1],
        filterHeight=kernel[0],
        filterWidth=kernel[1],
    )
    output = output_of(writer, node, is_map=True)
    writer.put("MAX_POOL_2D" if is_max else "AVERAGE_POOL_2D", [padded.index], output.index, options)


def _never_negative(value: Any) -> bool:
    """Zeros beside it change no maximum: PAD, which XNNPACK runs, does for PADV2, which it does not."""
    maker = value.producer()
    return maker is not None and (maker.op_type == "Relu" or (maker.op_type == "Clip" and bounds(maker)[0] >= 0))


@rule("GlobalAveragePool", "ReduceMean")
def _mean(writer: Writer, node: Any) -> None:
    source, axes = source_of(writer, node), [2, 3]
    if node.op_type == "ReduceMean":
        axes = attribute(node, "axes", None) or graph.integers(graph.argument(node, 1)) or []
    keep = bool(attribute(node, "keepdims", 1))
    if not source.is_map or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise unwritten(node, "is written over height and width alone, and others have no rule")
    output = output_of(writer, node, is_map=keep)
    over = writer.constant(f"{node.outputs[0].name}.axes", np.array([1, 2], np.int32))
    writer.put("MEAN", [source.index, over], output.index, writer.options("Reducer", keepDims=keep))
