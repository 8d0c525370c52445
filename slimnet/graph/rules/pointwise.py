"""Element by element: labels that meet become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from slimnet.graph.analysis import Interpreter, Param
from slimnet.graph.capture import shape_of
from slimnet.graph.rules._core import channel_value, number, opaque, rule
from slimnet.graph.values import NONE, Value, compact, live

POINTWISE = frozenset(
    "relu sigmoid tanh silu gelu elu celu selu leaky_relu mish softplus softsign hardswish hardsigmoid hardtanh relu6 "
    "hardshrink softshrink threshold log_sigmoid rrelu clamp clamp_min clamp_max exp log sqrt rsqrt abs neg pow square "
    "reciprocal erf sin cos add sub rsub mul div maximum minimum where tanhshrink".split()
)


def pointwise(run: Interpreter, node: Node, *arguments: Any, **keywords: Any) -> Any:
    """Labels that meet become one; a position is constant where all that it is made of is."""
    shape = shape_of(node)
    values = [_as_value(run, argument, shape) for argument in arguments]
    known = [value for value in values if value is not None]
    if not known or not shape:
        return opaque(run, node, *arguments)
    labels = _meet(run, known, shape, node)
    return Value(shape, compact(labels), _evaluate(node, arguments, values, keywords, shape))


def _as_value(run: Interpreter, argument: Any, shape: tuple[int, ...]) -> Value | None:
    """A value, or a parameter whose entries become channels; None for a number."""
    if isinstance(argument, Value):
        return argument
    if not isinstance(argument, Param):
        return None
    tensor = number(argument)
    wide = [dim for dim, size in enumerate(tensor.shape) if size > 1]
    labels = torch.full((1,) * tensor.dim(), NONE)
    if len(wide) == 1:
        made = run.labels.fresh(tensor.numel())
        labels = made.reshape(tensor.shape)
        run.analysis.note(argument, wide[0], made, "other")
    elif wide:
        labels = run.labels.fresh(1).reshape((1,) * tensor.dim())
        run.labels.pin(labels, f"{argument.name} has more than one wide dimension")
    return Value(argument.shape, labels, compact(tensor))


def _meet(run: Interpreter, values: Sequence[Value], shape: tuple[int, ...], node: Node) -> Tensor:
    """Unite the labels of operands after broadcasting; an operand spread over channels is pinned instead."""
    wide = [_spread(value.labels, len(shape)) for value in values]
    target = torch.broadcast_shapes(*[tuple(labels.shape) for labels in wide])  # type: ignore[no-untyped-call]
    result = torch.full(target, NONE)
    for value, labels in zip(values, wide, strict=True):
        padded = (1,) * (len(shape) - len(value.shape)) + value.shape
        over = [d for d in range(len(shape)) if target[d] > 1 and padded[d] == 1 and shape[d] > 1]
        if over and bool((labels != NONE).any()):
            run.labels.pin(labels, f"spread over channels by {node.name}")
            continue
        full = labels.expand(target)
        run.labels.unite(result, full)
        result = torch.where(result == NONE, full, result)
    return result


def _spread(tensor: Tensor, dims: int) -> Tensor:
    return tensor.reshape((1,) * (dims - tensor.dim()) + tuple(tensor.shape))


def _evaluate(
    node: Node, arguments: Sequence[Any], values: Sequence[Value | None], keywords: dict[str, Any], shape: tuple[int, ...]
) -> Tensor:
    constants = [_spread(value.constant, len(shape)) for value in values if value is not None]
    unknown = torch.zeros((1,) * len(shape), dtype=torch.bool)
    for constant in constants:
        unknown = unknown | constant.isnan()
    given = [
        argument if value is None else _spread(value.constant, len(shape)).nan_to_num(1.0)
        for argument, value in zip(arguments, values, strict=True)
    ]
    name = str(node.target)
    if "mul" in name:
        zero = torch.zeros((1,) * len(shape), dtype=torch.bool)
        for constant in constants:
            zero = zero | (constant == 0)
        return compact(torch.where(zero, 0.0, torch.where(unknown, torch.nan, _product(given))))
    try:
        result = node.target(*given, **keywords)  # type: ignore[operator]
    except Exception:
        return live(shape)
    return compact(torch.where(unknown | ~result.isfinite(), torch.nan, result.to(torch.float64)))


def _product(given: Sequence[Any]) -> Tensor:
    result = torch.ones((), dtype=torch.float64)
    for item in given:
        result = result * item
    return result


@rule("prelu")
def _prelu(run: Interpreter, node: Node, x: Any, weight: Any) -> Any:
    labels = x.along(1) if isinstance(x, Value) and isinstance(weight, Param) else None
    if labels is None:
        return opaque(run, node, x, weight)
    slope = number(weight)
    if weight.tensor.numel() > 1:
        run.analysis.note(weight, 0, labels, "other")
    u = x.constant_along(1)
    return channel_value(x.shape, 1, labels, torch.where(u >= 0, u, u * slope))


@rule(
    "dropout", "feature_dropout", "alpha_dropout", "contiguous", "clone", "detach", "alias", "to", "_to_copy", "lift_fresh_copy"
)
def _same(run: Interpreter, node: Node, x: Any, *_: Any, **__: Any) -> Any:
    return x
