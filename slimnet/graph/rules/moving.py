"""Operators that move data: run on the labels themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from slimnet.graph.capture import shape_of
from slimnet.graph.findings import Param
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.pieces import note_number, same_channels, split_channels
from slimnet.graph.rules.registry import as_vector, channel_value, numbers_vary, opaque, rule, sizes
from slimnet.graph.values import Value, compact, live, some


@rule(
    "flatten", "permute", "transpose", "movedim", "unsqueeze", "squeeze", "t", "numpy_T", "view", "reshape", "_unsafe_view",
    "unflatten",
)  # fmt: skip
def _move(run: Interpreter, node: Node, x: Any, *arguments: Any, **keywords: Any) -> Any:
    """Run on the labels. What cannot be followed when channels go is pinned."""
    x = as_vector(run, x)
    if not isinstance(x, Value):
        return opaque(run, node, x)
    target: Any = torch.ops.aten.reshape.default if "view" in str(node.target) else node.target
    has_sizes = any(name in str(node.target) for name in ("view", "reshape", "unflatten"))
    filled = [_filled(item) if isinstance(item, list | tuple) and 0 in x.shape and has_sizes else item for item in arguments]
    moved = x.map(lambda tensor: target(tensor, *filled, **keywords), shape_of(node))
    if not moved.is_sound:
        return opaque(run, node, x)
    if not moved.varying:  # one label for all of it
        return moved
    numbers = [number for item in arguments for number in (item if isinstance(item, list | tuple) else [item])]
    if len(x.varying) == 1 and len(moved.varying) == 1 and not run.mover(node):
        note_number(run, node, x, moved, numbers)
    if len(x.varying) == 1 and len(moved.varying) != 1 and not keywords and not run.scouts():
        split = split_channels(run, node, x, moved, numbers)
        if split is not None:
            return split
    if (len(x.varying) == 1 and len(moved.varying) != 1) or len(x.varying) > 1:
        run.pin(x, f"reshaped in a way that fixes channel counts ({node.name})")
    return moved


def _filled(sizes: Sequence[int]) -> list[int]:
    """Sizes of a view of a tensor without entries, for one that has some: the first dimension without any takes all of them."""
    first = sizes.index(0) if 0 in sizes else -1
    return [-1 if place == first else max(1, size) if size >= 0 else size for place, size in enumerate(sizes)]


@rule("flip", "expand", "repeat", "repeat_interleave")
def _repeat(run: Interpreter, node: Node, x: Any, *arguments: Any, **keywords: Any) -> Any:
    """Run on the labels: whatever remains of them is turned round, or repeated, in the same way."""
    x = as_vector(run, x)
    values = (*arguments, *keywords.values())
    if not isinstance(x, Value) or any(isinstance(value, Value | Param) for value in values):
        return opaque(run, node, x, *values)
    if "expand" in str(node.target):
        return x.map(lambda tensor: tensor.expand(some(shape_of(node))), shape_of(node))
    return x.map(lambda tensor: node.target(tensor, *arguments, **keywords), shape_of(node))  # type: ignore[operator]


@rule("index_select", "roll")
def _pick(run: Interpreter, node: Node, x: Any, *arguments: Any, **keywords: Any) -> Any:
    """Run on the labels. Picking channels by number stays right only inside a module that can be told what remains."""
    x = as_vector(run, x)
    if not isinstance(x, Value) or any(isinstance(argument, Value | Param) for argument in arguments):
        return opaque(run, node, x, *arguments)
    result = x.map(lambda tensor: node.target(tensor, *arguments, **keywords), shape_of(node))  # type: ignore[operator]
    rolls = len(arguments) < 2 or any(dim % len(x.shape) in x.varying for dim in sizes(arguments[1]))
    if (not same_channels(x, result) or (rolls and numbers_vary(run, node))) and not run.mover(node):
        run.pin(x, f"picked by channel number ({node.name})")
    return result


@rule("expand_as")
def _expand_as(run: Interpreter, node: Node, x: Any, other: Any) -> Any:
    """The other operand only lends its shape."""
    if not isinstance(x, Value) or not isinstance(other, Value):
        return opaque(run, node, x, other)
    return x.map(lambda tensor: tensor.expand(some(shape_of(node))), shape_of(node))


@rule("pad", "constant_pad_nd")
def _pad(run: Interpreter, node: Node, x: Any, pads: Sequence[int], *arguments: Any, **keywords: Any) -> Any:
    if not isinstance(x, Value):
        return opaque(run, node, x)
    mode = next((item for item in arguments if isinstance(item, str)), keywords.get("mode", "constant"))
    fill = next((item for item in arguments if isinstance(item, int | float)), keywords.get("value")) or 0.0
    last = len(x.shape) - 1
    vary = numbers_vary(run, node)
    touched = [last - i // 2 for i, amount in enumerate(pads) if amount or vary]
    if not any(dim in x.varying for dim in touched):
        if not touched and 0 in pads:  # the code may count what it pads with: nothing at this size, more at another
            touched = [dim for dim in range(last - len(pads) // 2 + 1, last + 1) if dim not in x.varying]
        grows = mode == "constant" and (vary or any(amount >= 0 for amount in pads))
        if fill and vary:
            fill = torch.nan
        constant = torch.where(x.constant == fill, x.constant, torch.nan) if grows else x.constant
        if any(x.constant.shape[dim] > 1 for dim in touched):
            constant = live(x.shape)
        return Value(shape_of(node), x.labels, compact(constant)) if touched else x
    if mode != "constant" or x.varying != (1,) or set(touched) != {1} or not run.mover(node):
        run.pin(x, f"padded with a fixed number of channels ({node.name})")
        return opaque(run, node, x)
    index = 2 * (last - 1)
    before, after = run.labels.fresh(pads[index]), run.labels.fresh(pads[index + 1])
    constant = torch.nn.functional.pad(x.constant_along(1), (len(before), len(after)), value=float(fill))
    return channel_value(shape_of(node), 1, torch.cat([before, x.labels.reshape(-1), after]), constant)
