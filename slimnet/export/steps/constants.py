"""Residual branches that have become constants: what they add to a stream, and the activations in between, at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from slimnet.onnx import graph as ir


def fold_constant_branches(model: Any) -> int:
    r"""Take constants that are added to a stream one after the other, with an activation after each, together, in place.

    A branch that was shut adds a constant to each channel. With :math:`x_0 = \max(u, 0)` and
    :math:`x_i = \max(x_{i-1} + c_i, 0)`,

    .. math:: x_n = \max(u + a_n - b_n, 0) + b_n, \quad a_i = a_{i-1} + c_i, \quad b_i = \max(b_{i-1} + c_i, 0)

    with a and b 0 at first, so that one activation is left, which the runtime folds into the convolution before it, whose bias
    takes a - b, and one addition at most. Sums are rounded in another order.

    Returns:
        How many such rows of constants there were.
    """
    rows, passed = [], set()
    for last in reversed(list(model.graph)):
        if last.op_type == "Relu" and id(last) not in passed:
            first, constants, between = _row(last)
            passed |= between
            if constants:
                rows.append((first, constants, last))
    for first, constants, last in rows:
        _fold(model.graph, first, constants, last)
    return len(rows)


def _row(last: ir.Node) -> tuple[ir.Node, list[ir.Array], set[int]]:
    """The first activation of a row, the constants (C,) that are added behind it, and the activations before the last."""
    first, constants, between = last, list[ir.Array](), set[int]()
    while (step := _before(first)) is not None:
        first, constant = step
        constants.insert(0, constant)
        between.add(id(first))
    return first, constants, between


def _before(relu: ir.Node) -> tuple[ir.Node, ir.Array] | None:
    """The activation before this one, and what is added in between; None where there is anything else, or anybody else reads."""
    add = relu.inputs[0].producer()
    if add is None or add.op_type != "Add" or ir.only_reader(add.outputs[0]) is not relu:
        return None
    for value, other in (add.inputs, add.inputs[::-1]):
        constant, before = _per_channel(value, ir.shape(other)), other.producer()
        if constant is not None and before is not None and before.op_type == "Relu" and ir.only_reader(other) is add:
            return before, constant
    return None


def _per_channel(value: ir.Value, sizes: ir.Sizes | None) -> ir.Array | None:
    """A constant (1, C, 1, 1), for a map of as many channels, as (C,) float64."""
    array = ir.constant(value)
    fits = array is not None and array.ndim == 4 and array.size == array.shape[1] and sizes is not None and sizes[1] == array.size
    return array.reshape(-1).astype(np.float64) if array is not None and fits else None


def _fold(graph: Any, first: ir.Node, constants: list[ir.Array], last: ir.Node) -> None:
    total, floor = np.zeros_like(constants[0]), np.zeros_like(constants[0])
    for constant in constants:
        total, floor = total + constant, np.maximum(floor + constant, 0)
    name, sizes = last.outputs[0].name, [None, len(total), None, None]
    if (total != floor).any():
        _shift(graph, first, total - floor, name)
    value = first.outputs[0]
    if floor.any():
        given = ir.initializer(graph, f"{name}_floor", floor.astype(np.float32).reshape(1, -1, 1, 1))
        value = ir.insert(graph, last, "Add", [value, given], sizes=sizes)
    ir.redirect(graph, last, value)


def _shift(graph: Any, relu: ir.Node, shift: ir.Array, name: str) -> None:
    """Add a constant to what an activation reads: in the bias of a convolution before it, if there is one."""
    conv = _biased_convolution(relu)
    if conv is not None:
        bias = ir.constant(conv.inputs[2])
        assert bias is not None
        conv.replace_input_with(2, ir.initializer(graph, f"{name}_bias", (bias + shift).astype(bias.dtype)))
        return
    given = ir.initializer(graph, f"{name}_shift", shift.astype(np.float32).reshape(1, -1, 1, 1))
    sizes = [None, len(shift), None, None]
    relu.replace_input_with(0, ir.insert(graph, relu, "Add", [relu.inputs[0], given], sizes=sizes))


def _biased_convolution(relu: ir.Node) -> ir.Node | None:
    """A convolution with a bias whose output comes to this activation alone, by itself or with another map added."""
    source = relu.inputs[0].producer()
    if source is None or ir.only_reader(relu.inputs[0]) is None:
        return None
    values = source.inputs if source.op_type == "Add" else relu.inputs[:1]
    reader = source if source.op_type == "Add" else relu
    for value in values:
        conv = None if value is None else value.producer()
        if conv is None or conv.op_type != "Conv" or ir.only_reader(value) is not reader:
            continue
        if ir.constant(ir.argument(conv, 2)) is not None:
            return conv
    return None
