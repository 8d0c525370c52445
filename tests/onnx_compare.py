"""Compares two ONNX networks without slimnet: in ONNX Runtime, and in float64 by onnx's reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from torch.nn import functional

Array = NDArray[Any]
Feed = Mapping[str, Array]


def worst(found: Sequence[Array], expected: Sequence[Array], scales: Sequence[float] = ()) -> float:
    """The largest |Δ| of an output, as a share of its largest value; infinite where shapes or what is not finite differ.

    ``scales``: what the largest value of each output counts as at least.
    """
    if len(found) != len(expected):
        return float("inf")
    least = scales or [0.0] * len(found)
    return max((_relative(*three) for three in zip(found, expected, least, strict=True)), default=0.0)


def with_logits(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[float]]:
    """A copy that also gives what goes into a sigmoid or softmax at the end, and the least scale of each output.

    A probability is on a scale of 1: that of noise may be 1e-30, where ONNX Runtime itself is right to 1e-8.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    scales, logits = [], []
    for value in model.graph.output:
        node = makers.get(value.name)
        while node is not None and node.op_type in ("Identity", "Cast", "Reshape", "Transpose", "Squeeze"):
            node = makers.get(node.input[0])
        is_probability = node is not None and node.op_type in ("Sigmoid", "Softmax")
        scales.append(1.0 if is_probability else 0.0)
        if node is not None and is_probability and node.input[0] in makers:
            logits.append(node.input[0])
    named = {value.name for value in model.graph.output}
    logits = [name for name in dict.fromkeys(logits) if name not in named]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in logits)
    return copy, scales + [0.0] * len(logits)


def _relative(found: Array, expected: Array, least: float) -> float:
    if found.shape != expected.shape or (np.isfinite(found) != np.isfinite(expected)).any():
        return float("inf")
    finite = np.isfinite(expected)
    if not finite.any():
        return 0.0
    one, other = found[finite].astype(np.float64), expected[finite].astype(np.float64)
    difference, scale = np.abs(one - other).max(), max(np.abs(other).max(), least)
    return float(difference / scale) if scale else float("inf") if difference else 0.0


def run(model: onnx.ModelProto, feed: Feed) -> list[Array]:
    """The outputs in ONNX Runtime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feed)))


def multiply_adds(model: onnx.ModelProto, feed: Feed) -> int:
    """Of convolutions and matrix products, from the shapes that ONNX Runtime meets; one counts as one."""
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    watched = list(dict.fromkeys(name for node in layers for name in (*node.input[:2], node.output[0])))
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    asked = [name for name in watched if name not in stored and name not in feed]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in asked)
    shapes = stored | {name: value.shape for name, value in feed.items()}
    shapes |= {name: value.shape for name, value in zip(asked, run(copy, feed), strict=True)}
    return sum(_of_layer(node, *(shapes[name] for name in (*node.input[:2], node.output[0]))) for node in layers)


def _of_layer(node: onnx.NodeProto, read: Sequence[int], weight: Sequence[int], made: Sequence[int]) -> int:
    if node.op_type == "Conv":
        return prod(made) * prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return prod(read) * prod(weight[1:])
    is_turned = any(each.name == "transA" and each.i for each in node.attribute)
    return prod(made) * read[-2 if is_turned else -1]


def run_double(model: onnx.ModelProto, feed: Feed) -> list[Array]:
    """The outputs of a network in float64 by the reference evaluator; slow and doubtful operators are those below."""
    evaluator = ReferenceEvaluator(doubled(model), new_ops=OPERATORS)
    wide = {name: value.astype(np.float64) if value.dtype == np.float32 else value for name, value in feed.items()}
    return [np.asarray(value) for value in evaluator.run(None, wide)]


def doubled(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a network whose float32 tensors are float64."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in copy.graph.initializer:
        _widen(tensor)
    for node in copy.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                value = np.asarray(helper.get_attribute_value(attribute), np.float64)
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(value)))
    return copy


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _pads(
    x: torch.Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Any, auto: Any
) -> list[int]:
    """Pads as ``functional.pad`` takes them: the last dimension first."""
    n = len(kernel)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
            small = total // 2
            pairs.append((small, total - small) if auto == "SAME_UPPER" else (total - small, small))
    else:
        listed = list(pads or [0] * 2 * n) if auto in (None, "NOTSET") else [0] * 2 * n
        pairs = list(zip(listed[:n], listed[n:], strict=True))
    return [size for pair in reversed(pairs) for size in pair]


class Conv(OpRun):
    """Convolution."""

    def _run(  # type: ignore[no-untyped-def]
        self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, pads=None, strides=None
    ):
        n = x.ndim - 2
        value, weight = torch.from_numpy(np.array(x)), torch.from_numpy(np.array(w))
        strides, dilations = list(strides or [1] * n), list(dilations or [1] * n)
        value = functional.pad(value, _pads(value, weight.shape[2:], strides, dilations, pads, auto_pad))
        bias = None if b is None else torch.from_numpy(np.array(b))
        made = getattr(functional, f"conv{n}d")(value, weight, bias, strides, 0, dilations, group or 1)
        return (made.numpy(),)


class ConvTranspose(OpRun):
    """Transposed convolution, with pads that are the same at both ends."""

    def _run(  # type: ignore[no-untyped-def]
        self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, output_padding=None, output_shape=None,
        pads=None, strides=None,
    ):  # fmt: skip
        n = x.ndim - 2
        pads = list(pads or [0] * 2 * n)
        assert pads[:n] == pads[n:] and not output_shape and auto_pad in (None, "NOTSET"), "not written"
        bias = None if b is None else torch.from_numpy(np.array(b))
        made = getattr(functional, f"conv_transpose{n}d")(
            torch.from_numpy(np.array(x)), torch.from_numpy(np.array(w)), bias, list(strides or [1] * n), pads[:n],
            list(output_padding or [0] * n), group or 1, list(dilations or [1] * n),
        )  # fmt: skip
        return (made.numpy(),)


def _windows(
    x: Array, fill: float, kernel: Sequence[int], strides: Any, dilations: Any, pads: Any, auto: Any, ceil: Any
) -> torch.Tensor:
    """(N, C, …, places in a window): all windows of a pool, what lies outside filled."""
    n = len(kernel)
    strides, dilations = list(strides or [1] * n), list(dilations or [1] * n)
    value = torch.from_numpy(np.array(x))
    value = functional.pad(value, _pads(value, kernel, strides, dilations, pads, auto), value=fill)
    if ceil:
        rest = [(size - (k - 1) * d - 1) % s for size, k, s, d in zip(value.shape[2:], kernel, strides, dilations, strict=True)]
        value = functional.pad(
            value, [y for r, s in reversed(list(zip(rest, strides, strict=True))) for y in (0, (s - r) % s)], value=fill
        )
    for dim, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True)):
        value = value.unfold(2 + dim, (k - 1) * d + 1, s)[..., ::d]
    return value.flatten(2 + n)


class MaxPool(OpRun):
    """Maximum of windows; the first output alone."""

    def _run(  # type: ignore[no-untyped-def]
        self, x, auto_pad=None, ceil_mode=None, dilations=None, kernel_shape=None, pads=None, storage_order=None, strides=None
    ):
        windows = _windows(x, -float("inf"), kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
        found = windows.amax(-1)
        if ceil_mode:  # a last window that starts in the pads is not counted
            found = _inside(found, x, kernel_shape, strides, pads)
        return (found.numpy(),)


class AveragePool(OpRun):
    """Mean of windows."""

    def _run(  # type: ignore[no-untyped-def]
        self, x, auto_pad=None, ceil_mode=None, count_include_pad=None, dilations=None, kernel_shape=None, pads=None, strides=None
    ):
        counted = np.ones((1, 1, *x.shape[2:]))
        if count_include_pad:
            n = len(kernel_shape)
            pads = list(pads or [0] * 2 * n)
            widths = [(0, 0), (0, 0), *zip(pads[:n], pads[n:], strict=True)]
            x, counted, pads = np.pad(x, widths), np.pad(counted, widths, constant_values=1.0), None
        options = (kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
        found = _windows(x, 0.0, *options).sum(-1) / _windows(counted, 0.0, *options).sum(-1)
        if ceil_mode:
            found = _inside(found, x, kernel_shape, strides, pads)
        return (found.numpy(),)


def _inside(found: torch.Tensor, x: Array, kernel: Sequence[int], strides: Any, pads: Any) -> torch.Tensor:
    n = len(kernel)
    strides, pads = list(strides or [1] * n), list(pads or [0] * 2 * n)
    for dim in range(n):
        while (found.shape[2 + dim] - 1) * strides[dim] >= x.shape[2 + dim] + pads[dim]:
            found = found.narrow(2 + dim, 0, found.shape[2 + dim] - 1)
    return found


class BatchNormalization(OpRun):
    """With stored statistics. The evaluator's own of opsets 9 to 13 takes those of the batch."""

    def _run(  # type: ignore[no-untyped-def]
        self, x, scale, bias, mean, var, epsilon=None, momentum=None, training_mode=None, spatial=None
    ):
        assert not training_mode, "not written"
        scale, bias, mean, var = (value.reshape(-1, *[1] * (x.ndim - 2)) for value in (scale, bias, mean, var))
        return ((x - mean) / np.sqrt(var + (1e-5 if epsilon is None else epsilon)) * scale + bias,)


OPERATORS: list[type[OpRun]] = [Conv, ConvTranspose, MaxPool, AveragePool, BatchNormalization]
