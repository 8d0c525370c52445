"""Operators that older operator sets lack, or compute otherwise, in terms of others: one function each gives the nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx

from slimnet.onnx.lower.context import CannotLowerError, Context, Parts, argument, attribute

Decompose = Callable[[onnx.NodeProto, Context, Parts], None]


def hard_swish(node: onnx.NodeProto, context: Context, parts: Parts) -> None:
    """x · max(0, min(1, x/6 + ½))."""
    gate = parts.put("HardSigmoid", node.input[0], alpha=1 / 6, beta=0.5)
    parts.put("Mul", node.input[0], gate, last=True)


def mish(node: onnx.NodeProto, context: Context, parts: Parts) -> None:
    """x · tanh(softplus(x))."""
    parts.put("Mul", node.input[0], parts.put("Tanh", parts.put("Softplus", node.input[0])), last=True)


def swish(node: onnx.NodeProto, context: Context, parts: Parts) -> None:
    """x · sigmoid(α x)."""
    x, alpha = node.input[0], attribute(node, "alpha", 1.0)
    inner = x if alpha == 1 else parts.put("Mul", x, context.number(node, alpha))
    parts.put("Mul", x, parts.put("Sigmoid", inner), last=True)


def gelu(node: onnx.NodeProto, context: Context, parts: Parts) -> None:
    """½ x (1 + erf(x/√2)), or with tanh in its place."""
    x, half = node.input[0], context.number(node, 0.5)
    if attribute(node, "approximate", "none") == "tanh":
        cube = parts.put("Mul", parts.put("Mul", x, x), x)
        inner = parts.put("Add", x, parts.put("Mul", cube, context.number(node, 0.044715)))
        bent = parts.put("Tanh", parts.put("Mul", inner, context.number(node, math.sqrt(2 / math.pi))))
    else:
        bent = parts.put("Erf", parts.put("Mul", x, context.number(node, math.sqrt(0.5))))
    parts.put("Mul", parts.put("Mul", x, half), parts.put("Add", bent, context.number(node, 1)), last=True)


def layer_norm(node: onnx.NodeProto, context: Context, parts: Parts) -> None:
    """(x − mean) / √(variance + ε) · scale + bias, over the last axes."""
    x, axis, rank = node.input[0], attribute(node, "axis", -1), context.rank(node.input[0])
    if axis >= 0 and rank is None:
        raise CannotLowerError("has an axis that is counted from the front of a tensor of unknown rank")
    axes = list(range(axis if axis < 0 else axis - (rank or 0), 0))
    less = parts.put("Sub", x, parts.put("ReduceMean", x, axes=axes, keepdims=1))
    variance = parts.put("ReduceMean", parts.put("Mul", less, less), axes=axes, keepdims=1)
    epsilon = context.number(node, attribute(node, "epsilon", 1e-5))
    normed = parts.put("Div", less, parts.put("Sqrt", parts.put("Add", variance, epsilon)))
    scaled = parts.put("Mul", normed, node.input[1], last=not argument(node, 2))
    if argument(node, 2):
        parts.put("Add", scaled, node.input[2], last=True)


def softmax(node: onnx.NodeProto, context: Context, parts: Parts) -> None:
    """Before 13 it went over all axes from one on: the same for the last alone, to which another has to be moved."""
    axis, rank = attribute(node, "axis", -1), context.rank(node.input[0])
    last = -1 if rank is None else rank - 1
    if axis in (-1, last):
        parts.put(node.op_type, node.input[0], last=True, axis=last)
        return
    if rank is None:
        raise CannotLowerError("has an axis that may not be the last")
    order = list(range(rank))
    order[axis % rank], order[last] = last, axis % rank
    moved = parts.put(node.op_type, parts.put("Transpose", node.input[0], perm=order), axis=last)
    parts.put("Transpose", moved, last=True, perm=order)


def part_of_shape(node: onnx.NodeProto, context: Context, parts: Parts) -> None:
    """Before 15 a Shape was whole."""
    start, end = attribute(node, "start", 0), attribute(node, "end")
    if start == 0 and end is None:
        parts.put("Shape", node.input[0], last=True)
        return
    whole = parts.put("Shape", node.input[0])
    ends = (start, np.iinfo(np.int64).max if end is None else end)
    sides = [context.add(f"{node.output[0]}_{name}", np.array([value])) for name, value in zip(("from", "to"), ends, strict=True)]
    parts.put("Slice", whole, *sides, last=True)


def or_equal(op: str) -> Decompose:
    """Greater or equal, less or equal."""

    def decompose(node: onnx.NodeProto, context: Context, parts: Parts) -> None:
        strict, equal = parts.put(op, *node.input), parts.put("Equal", *node.input)
        parts.put("Or", strict, equal, last=True)

    return decompose


def celu(node: onnx.NodeProto, context: Context, parts: Parts) -> None:
    """α · elu(x/α)."""
    alpha = context.number(node, attribute(node, "alpha", 1.0))
    parts.put("Mul", alpha, parts.put("Elu", parts.put("Div", node.input[0], alpha), alpha=1.0), last=True)


PARTS: Mapping[str, tuple[int, Decompose]] = {
    "Swish": (24, swish),
    "Gelu": (20, gelu),
    "Mish": (18, mish),
    "LayerNormalization": (17, layer_norm),
    "Shape": (15, part_of_shape),
    "HardSwish": (14, hard_swish),
    "Softmax": (13, softmax),
    "LogSoftmax": (13, softmax),
    "Hardmax": (13, softmax),
    "Celu": (12, celu),
    "GreaterOrEqual": (12, or_equal("Greater")),
    "LessOrEqual": (12, or_equal("Less")),
}
"""Operator → the version below which others have to stand for it, and these."""

OTHERWISE: Mapping[str, int] = {"GroupNormalization": 21, "RoiAlign": 16, "DFT": 20, "Upsample": 10}
"""Operator → the version below which it computes something else than its schema shows."""
