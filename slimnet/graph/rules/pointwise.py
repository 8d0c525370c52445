"""Element by element: labels that meet become one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from slimnet.graph.capture import shape_of
from slimnet.graph.findings import Param
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.registry import as_value, channel_value, number, numbers_vary, opaque, rule
from slimnet.graph.values import NONE, Value, compact, live

POINTWISE = frozenset(
    "relu sigmoid tanh silu gelu elu celu selu leaky_relu mish softplus softsign hardswish hardsigmoid hardtanh relu6 "
    "hardshrink softshrink threshold log_sigmoid rrelu clamp clamp_min clamp_max exp log sqrt rsqrt abs neg pow square "
    "reciprocal erf sin cos add sub rsub mul div maximum minimum where tanhshrink".split()
)

PRODUCTS = frozenset(
    (torch.ops.aten.mul.Tensor, torch.ops.aten.mul_.Tensor, torch.ops.aten.mul.Scalar, torch.ops.aten.mul_.Scalar)
)


def pointwise(run: Interpreter, node: Node, *arguments: Any, **keywords: Any) -> Any:
    """Labels that meet become one; a position is constant where all that it is made of is."""
    shape = shape_of(node)
    values = [as_value(run, argument) for argument in arguments]
    known = [value for value in values if value is not None]
    if not known or not shape:
        return opaque(run, node, *arguments)
    labels = _meet(run, known, shape, node)
    made = node.meta.get("val")
    if isinstance(made, Tensor) and made.is_complex():  # constants have no imaginary part
        return Value(shape, compact(labels), live(shape))
    constant = _evaluate(node, arguments, values, keywords, shape)
    if numbers_vary(run, node):
        for others, instead in _other_numbers(arguments, keywords):
            constant = _where_same(constant, _evaluate(node, others, values, instead, shape))
    if node.target in PRODUCTS:
        _note_losses(run, node, known, constant)
    return Value(shape, compact(labels), constant)


def _other_numbers(arguments: Sequence[Any], keywords: dict[str, Any]) -> Iterator[tuple[Sequence[Any], dict[str, Any]]]:
    """The same arguments with other numbers: near ones, and such as are beyond what a bound lets through on either side."""

    def other(value: Any, by: float) -> Any:
        return value + by if isinstance(value, int | float) and not isinstance(value, bool) else value

    for by in (1, 0.375, 1e6, -1e6):
        yield [other(value, by) for value in arguments], {key: other(value, by) for key, value in keywords.items()}


def _where_same(one: Tensor, other: Tensor) -> Tensor:
    """Constants that are the same in both; NaN where they differ."""
    one, other = torch.broadcast_tensors(one, other)  # type: ignore[no-untyped-call]
    return compact(torch.where(one == other, one, torch.nan))


def _note_losses(run: Interpreter, node: Node, values: Sequence[Value], product: Tensor) -> None:
    """Constants that are multiplied by something live vary from here on."""
    for value in values:
        known, labels = (_spread(tensor, product.dim()) for tensor in (value.constant, value.labels))
        lost = ~known.isnan() & (known != 0) & product.isnan()
        lost, labels = torch.broadcast_tensors(lost, labels)  # type: ignore[no-untyped-call]
        run.labels.lose(torch.unique(labels[lost]), f"constant, but multiplied by a value that varies ({node.name})")


def _meet(run: Interpreter, values: Sequence[Value], shape: tuple[int, ...], node: Node) -> Tensor:
    """Unite the labels of operands after broadcasting; an operand spread over channels is pinned instead.

    An operand of which the channels are not known fixes those of the others.
    """
    wide = [_spread(value.labels, len(shape)) for value in values]
    target = torch.broadcast_shapes(*[tuple(labels.shape) for labels in wide])  # type: ignore[no-untyped-call]
    result = torch.full(target, NONE)
    whole: list[int] = []
    for value, labels in zip(values, wide, strict=True):
        padded = (1,) * (len(shape) - len(value.shape)) + value.shape
        over = [d for d in range(len(shape)) if target[d] > 1 and padded[d] == 1 and shape[d] > 1]
        if over and bool((labels != NONE).any()):
            run.labels.pin(labels, f"spread over channels by {node.name}")
            continue
        if labels.numel() == 1 < target.numel() and int(labels) != NONE:
            if int(labels) in run.whole:
                whole.append(int(labels))
            run.labels.pin(labels, f"spread over channels by {node.name}")
            continue
        full = labels.expand(target)
        run.labels.unite(result, full)
        result = torch.where(result == NONE, full, result)
    for label in whole:
        run.labels.pin(result, run.labels.reason(label))
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
        argument if value is None else _typed(_spread(value.constant, len(shape)).nan_to_num(1.0), source)
        for argument, value, source in zip(arguments, values, node.args, strict=True)
    ]
    if node.target in PRODUCTS:
        zero = torch.zeros((1,) * len(shape), dtype=torch.bool)
        for constant in constants:
            zero = zero | (constant == 0)
        return compact(torch.where(zero, 0.0, torch.where(unknown, torch.nan, _product(given))))
    try:
        result = node.target(*given, **keywords)  # type: ignore[operator]
    except Exception:
        return live(shape)
    return compact(torch.where(unknown | ~result.isfinite(), torch.nan, result.to(torch.float64)))


def _typed(constant: Tensor, source: Any) -> Tensor:
    """Constants as the operator gets them: truth values as such."""
    value = source.meta.get("val") if isinstance(source, Node) else None
    return constant.bool() if isinstance(value, Tensor) and value.dtype == torch.bool else constant


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


@rule("contiguous", "clone", "detach", "alias", "lift_fresh_copy")
def _same(run: Interpreter, node: Node, x: Any, *_: Any, **__: Any) -> Any:
    return x


@rule("to", "_to_copy", "type_as")
def _cast(run: Interpreter, node: Node, x: Any, *_: Any, **__: Any) -> Any:
    """A cast to another kind of number keeps the labels; constants would be rounded."""
    made = node.meta.get("val")
    keeps = isinstance(made, Tensor) and made.is_floating_point()
    return x if keeps or not isinstance(x, Value) else Value(x.shape, x.labels, live(x.shape))


@rule("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def _dropout(run: Interpreter, node: Node, x: Any, p: float, train: bool) -> Any:
    """Nothing in eval mode; a network that drops at random even then is not one function, and nothing in it is constant."""
    return x if not train or not isinstance(x, Value) else Value(x.shape, x.labels, live(x.shape))


@rule("_assert_tensor_metadata")
def _assertion(run: Interpreter, node: Node, *_: Any, **__: Any) -> Any:
    """A check of the type and the device."""
    return None


@rule("softmax", "log_softmax")
def _softmax(run: Interpreter, node: Node, x: Any, dim: int, *_: Any, **__: Any) -> Any:
    """Over branches, places: channels stay apart. Over channels, each depends on all."""
    if not isinstance(x, Value):
        return opaque(run, node, x)
    axis = dim % len(x.shape)
    if axis in x.varying:
        return opaque(run, node, x)
    shape = [*x.constant.shape]
    shape[axis] = x.shape[axis]
    constant = node.target(x.constant.expand(shape), axis)  # type: ignore[operator]
    return Value(x.shape, x.labels, compact(constant))
