"""Operators that take channels apart by counting them: chunks, slices, and views that split the channels into several dimensions.

What remains of the channels must be counted right by the network's own code. Where the count follows from a tensor's shape,
the pieces keep their proportion; where it is a number of a module, that number is set; where it is written in the code, what it
counts stays.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from slimnet.graph.capture import is_told, module_path, operator_in, shape_of
from slimnet.graph.counts import Origin
from slimnet.graph.findings import Number, Param, Pieces
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.registry import as_vector, channel_value, opaque, rule
from slimnet.graph.values import NONE, Value, compact, some

Counted = tuple[Tensor, Origin, int]
"""(n,) labels that are counted, where the number comes from, and how many times a module's number it is."""


@rule("chunk", "tensor_split", "split", "split_with_sizes", "narrow", "slice", "select", "unbind")
def _pick(run: Interpreter, node: Node, x: Any, *arguments: Any, **keywords: Any) -> Any:
    """Run on the labels; if channels are counted, note what the code counts them with."""
    x = as_vector(run, x)
    if not isinstance(x, Value) or any(isinstance(argument, Value | Param) for argument in arguments):
        return opaque(run, node, x, *arguments)

    def apply(tensor: Tensor) -> Any:
        return node.target(tensor, *arguments, **keywords)  # type: ignore[operator]

    dim = _dimension(node, arguments, keywords) % len(x.shape)
    if _name(node) in ("slice", "narrow") and x.labels.shape[dim] == x.constant.shape[dim] == 1:
        return Value(shape_of(node), x.labels, x.constant)
    labels, constants = apply(x.labels.expand(some(x.shape))), apply(x.constant.expand(some(x.shape)))
    many = isinstance(labels, list | tuple)
    made = [tuple(int(size) for size in each.shape) for each in node.meta["val"]] if many else [shape_of(node)]
    pairs = zip(labels, constants, strict=True) if many else [(labels, constants)]
    if many and len(labels) != len(made):
        return opaque(run, node, x)
    results = [Value(shape, compact(one), compact(two)) for shape, (one, two) in zip(made, pairs, strict=True)]
    picks = any(not same_channels(x, result) for result in results) and not run.mover(node)
    if picks and (x.varying != (dim,) or not _count(run, node, x, dim, results, arguments)):
        run.pin(x, f"picked by channel number ({node.name})")
    return results if many else results[0]


def same_channels(x: Value, result: Value) -> bool:
    """Whether the channels of two values are the same, in the same order."""
    return torch.equal(x.labels.reshape(-1), result.labels.reshape(-1))


def _dimension(node: Node, arguments: Sequence[Any], keywords: dict[str, Any]) -> int:
    """The dimension along which an operator takes a tensor apart."""
    place = 1 if _name(node) in ("chunk", "tensor_split", "split", "split_with_sizes") else 0
    return int(keywords.get("dim", arguments[place] if len(arguments) > place else 0))


def _name(node: Node) -> str:
    return str(node.target).removeprefix("aten.").split(".")[0]


def _count(run: Interpreter, node: Node, x: Value, dim: int, results: Sequence[Value], arguments: Sequence[Any]) -> bool:
    """Note how the channels along ``dim`` are counted; False where nothing can be said."""
    labels = x.along(dim)
    name = _name(node)
    assert labels is not None
    if run.as_graph and name not in ("select", "unbind"):
        return name != "slice" or len(arguments) < 4 or arguments[3] == 1
    if name == "select":
        place = arguments[1]
        _note(run, node, [(labels[: place + 1] if place >= 0 else labels[place:], "code", 1)])
        return True
    if name == "narrow":
        return _narrow(run, node, x, dim, labels, arguments)
    if name == "slice":
        return _slice(run, node, x, dim, labels, arguments)
    return name != "unbind" and _split(run, node, x, dim, results, arguments)


def _split(run: Interpreter, node: Node, x: Value, dim: int, results: Sequence[Value], arguments: Sequence[Any]) -> bool:
    """A chunk or a split. The last piece of one that is told a single size may be smaller than the others."""
    labels = x.along(dim)
    assert labels is not None
    parts = list(torch.split(labels, [result.shape[dim] for result in results]))
    if _name(node) in ("chunk", "tensor_split"):
        if len({len(part) for part in parts}) > 1 or not isinstance(arguments[0], int) or len(parts) != arguments[0]:
            return False
        _note(run, node, [(part, "shape", 1) for part in parts])
        return True
    given = arguments[0] if isinstance(arguments[0], list | tuple) else [arguments[0]]
    origins = _origins(run, node, "split", (dim, *given), x)[1:]
    if isinstance(arguments[0], int):
        if origins[0][0] == "code":
            parts = parts[:-1]
        elif len(parts[-1]) != len(parts[0]):
            return False
        origins = origins * len(parts)
    _note(run, node, [(part, *origin) for part, origin in zip(parts, origins, strict=True)])
    return True


def _narrow(run: Interpreter, node: Node, x: Value, dim: int, labels: Tensor, arguments: Sequence[Any]) -> bool:
    start, length = arguments[1:3]
    if not isinstance(start, int) or start < 0:
        return False
    _, first, second = _origins(run, node, "narrow", (dim, start, length), x)
    _note(run, node, [(labels[:start], *first), (labels[start : start + length], *second)], labels[start + length :])
    return True


def _slice(run: Interpreter, node: Node, x: Value, dim: int, labels: Tensor, arguments: Sequence[Any]) -> bool:
    start, end, step = (list(arguments[1:]) + [None, None, 1][max(0, len(arguments) - 1) :])[:3]
    start, end = 0 if start is None else start, sys.maxsize if end is None else end
    if step != 1:
        return False
    _, *origins = _origins(run, node, "slice", (dim, start, end), x)
    counted: list[Counted] = []
    before = 0
    for place, (origin, times) in zip((start, end), origins, strict=True):
        if place < 0:
            counted.append((labels[place:], "code", 1))
        elif 0 < place < len(labels) and isinstance(origin, Number):
            counted.append((labels[:place], origin, times))
        elif 0 < place < len(labels):
            counted.append((labels[before:place], origin, times))
            before = place
    _note(run, node, counted, labels[before:])
    return True


def _origins(run: Interpreter, node: Node, name: str, numbers: Sequence[int], x: Value) -> tuple[tuple[Origin, int], ...]:
    """Where the numbers of an operator come from; "code" for each where that is not known, "graph" where all can be rewritten."""
    if run.as_graph:
        return (("graph", 1),) * len(numbers)
    key = (module_path(node).partition("@")[0], name, tuple(numbers), x.shape)
    return run.counts.found.get(key) or (("code", 1),) * len(numbers)


def _note(run: Interpreter, node: Node, counted: Sequence[Counted], rest: Tensor | None = None) -> None:
    """Tie what is counted to what it is counted with. ``rest``: what the code does not count."""
    where = operator_in(node)
    shares = [part for part, origin, _ in counted if origin == "shape" and len(part)]
    if shares and rest is not None and len(rest):
        shares.append(rest)
    if len(shares) > 1:
        unit = math.gcd(*(len(part) for part in shares))
        run.analysis.pieces.append(Pieces(tuple(shares), tuple(len(part) // unit for part in shares), where))
    for part, origin, times in counted:
        if isinstance(origin, Number):
            run.analysis.pieces.append(Pieces((part,), (times,), where, origin))
        elif origin != "shape" and is_told(node):
            run.pin(run.value(node.args[0]), f"counted by a number that may depend on data ({where})")
        elif origin != "shape":
            run.labels.pin(part, f"counted by a number that is written in the code ({where})")


def count_norm_groups(run: Interpreter, node: Node, x: Value, labels: Tensor) -> None:
    """Norm groups, (groups, depth) labels, of which the code or a module has the number: that follows what remains.

    A GroupNorm with scale and shift is resized with these.
    """
    path = module_path(node)
    module = run.module(path)
    if run.as_graph or (isinstance(module, nn.GroupNorm) and module.weight is not None):
        return
    origin, times = _origins(run, node, "group_norm", (len(labels),), x)[0]
    _note(run, node, [(labels[:, 0] if isinstance(origin, Number) else labels, origin, times)])
    if isinstance(module, nn.GroupNorm):
        channels = Number(path.partition("@")[0], "num_channels")
        run.analysis.pieces.append(Pieces((labels.reshape(-1),), (1,), operator_in(node), channels))


def split_channels(run: Interpreter, node: Node, x: Value, moved: Value, numbers: Sequence[int]) -> Value | None:
    """A view that splits the channels into several dimensions: one of them can shrink, the channels along the others are one.

    Args:
        run: the interpreter.
        node: the view.
        x: what it takes; its labels vary along one dimension.
        moved: labels and constants behind it.
        numbers: of the node, as :class:`slimnet.graph.counts.Counts` has them.

    Returns:
        What comes out, its labels along the dimension that can shrink; None where that is not known.
    """
    dim = x.varying[0]
    made = _factors(x.shape, dim, moved.shape)
    if made is None:
        return None
    name, skipped = ("unflatten", 1 - made[0]) if "unflatten" in str(node.target) else ("view", 0)
    if name == "unflatten":
        numbers = [numbers[0] % len(x.shape), *numbers[1:]]
    origins = _origins(run, node, name, numbers, x)
    free = [d for d in made if moved.shape[d] > 1 and origins[d + skipped][0] != "code"]
    if not free:
        run.pin(x, f"counted by numbers that are written in the code ({operator_in(node)})")
        return moved
    rank = {"rest": 0, "shape": 1}
    axis = min(free, key=lambda d: (rank.get(str(origins[d + skipped][0]), 2), -moved.shape[d]))
    labels = x.along(dim)
    assert labels is not None
    outer, size = math.prod(moved.shape[d] for d in made if d < axis), moved.shape[axis]
    table = labels.reshape(outer, size, -1).movedim(1, 0).reshape(size, -1)
    if bool((table == NONE).any()):
        return None
    run.labels.unite(table[:, :1].expand_as(table), table)
    origin, times = origins[axis + skipped]
    if isinstance(origin, Number):
        run.analysis.pieces.append(Pieces((table[:, 0],), (times,), operator_in(node), origin))
    shown = channel_value(moved.shape, axis, table[:, 0], torch.full((size,), torch.nan))
    return Value(moved.shape, shown.labels, moved.constant)


def _factors(before: tuple[int, ...], dim: int, after: tuple[int, ...]) -> list[int] | None:
    """The dimensions that a dimension becomes in a view; None where it is not taken apart cleanly."""
    before, after = some(before), some(after)
    ahead, place = math.prod(before[:dim]), 0
    reached = 1
    while reached < ahead and place < len(after):
        reached *= after[place]
        place += 1
    found, size = [], 1
    while reached == ahead and size < before[dim] and place < len(after):
        found.append(place)
        size *= after[place]
        place += 1
    return found if size == before[dim] and reached == ahead else None


def note_number(run: Interpreter, node: Node, x: Value, moved: Value, numbers: Sequence[int]) -> None:
    """A view that names the number of channels by a number of a module: that number is set to what remains."""
    made = _factors(x.shape, x.varying[0], moved.shape)
    if made != list(moved.varying) or _name(node) not in ("view", "reshape", "_unsafe_view"):
        return
    origin, times = _origins(run, node, "view", numbers, x)[made[0]]
    labels = x.along(x.varying[0])
    if isinstance(origin, Number) and labels is not None:
        run.analysis.pieces.append(Pieces((labels,), (times,), operator_in(node), origin))


@rule("glu")
def _glu(run: Interpreter, node: Node, x: Any, dim: int = -1) -> Any:
    """The first half times the sigmoid of the second: channel by channel, both go together."""
    if not isinstance(x, Value):
        return opaque(run, node, x)
    axis = dim % len(x.shape)
    if axis not in x.varying:
        return (
            x.map(lambda tensor: tensor.chunk(2, axis)[0], shape_of(node))
            if x.constant.shape[axis] == 1
            else opaque(run, node, x)
        )
    labels = x.along(axis)
    if labels is None or bool((labels == NONE).any()):
        return opaque(run, node, x)
    first, second = labels.chunk(2)
    run.labels.unite(first, second)
    value, gate = x.constant_along(axis).chunk(2)
    constant = torch.where(value == 0, 0.0, value * torch.sigmoid(gate))
    return channel_value(shape_of(node), axis, first, constant)


@rule("channel_shuffle")
def _channel_shuffle(run: Interpreter, node: Node, x: Any, groups: int) -> Any:
    """Channels of equal number in all groups come to lie side by side, and go together."""
    labels = x.along(1) if isinstance(x, Value) else None
    if labels is None or bool((labels == NONE).any()):
        return opaque(run, node, x)
    table = labels.reshape(groups, -1)
    run.labels.unite(table[:1].expand_as(table), table)
    order = torch.arange(len(labels)).reshape(groups, -1).t().reshape(-1)
    return channel_value(shape_of(node), 1, labels[order], x.constant_along(1)[order])
