"""Operators that put tensors side by side: along the channels, or along another dimension, where their channels become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from slimnet.graph.capture import operator_in, shape_of
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.registry import as_vector, opaque, rule
from slimnet.graph.values import NONE, Value, compact


@rule("cat", "concat", "concatenate")
def _cat(run: Interpreter, node: Node, values: Sequence[Any], dim: int = 0) -> Any:
    values = [as_vector(run, value) for value in values]
    if not all(isinstance(value, Value) for value in values):
        return opaque(run, node, *values)
    axis = dim % len(values[0].shape)
    constant = compact(_joined([value.constant for value in values], values, axis))
    if any(axis not in value.varying and value.varying for value in values):
        return Value(shape_of(node), _met(run, node, values, axis), constant)
    return Value(shape_of(node), compact(_joined([value.labels for value in values], values, axis)), constant)


@rule("stack")
def _stack(run: Interpreter, node: Node, values: Sequence[Any], dim: int = 0) -> Any:
    """Along a new dimension: position by position, the operands' channels are one."""
    values = [as_vector(run, value) for value in values]
    if not all(isinstance(value, Value) for value in values):
        return opaque(run, node, *values)
    axis = dim % (len(values[0].shape) + 1)
    values = [value.map(lambda x: x.unsqueeze(axis), (*value.shape[:axis], 1, *value.shape[axis:])) for value in values]
    constant = compact(_joined([value.constant for value in values], values, axis))
    return Value(shape_of(node), _met(run, node, values, axis), constant)


def _joined(tensors: Sequence[Tensor], values: Sequence[Value], axis: int) -> Tensor:
    shapes = torch.broadcast_shapes(*[(*t.shape[:axis], 1, *t.shape[axis + 1 :]) for t in tensors])  # type: ignore[no-untyped-call]
    sizes = [value.shape[axis] for value in values]
    sizes = sizes if any(sizes) else [1] * len(sizes)
    wide = [t.expand(*shapes[:axis], n, *shapes[axis + 1 :]) for t, n in zip(tensors, sizes, strict=True)]
    return torch.cat(wide, dim=axis)


def _met(run: Interpreter, node: Node, values: Sequence[Value], axis: int) -> Tensor:
    """The labels of tensors that are joined along a dimension which is not that of their channels.

    Where they have no channels in common (one of them is filled with numbers, or has them along another dimension) all stay.
    """
    first = values[0].labels
    if all(value.labels.shape == first.shape for value in values) and axis not in values[0].varying:
        tied = [value.labels != NONE for value in values]
        if all(torch.equal(tied[0], other) for other in tied):
            for value in values[1:]:
                run.labels.unite(first, value.labels)
            return first
    run.pin(list(values), f"joined with a tensor of other channels ({operator_in(node)})")
    return compact(_joined([value.labels for value in values], values, axis))
