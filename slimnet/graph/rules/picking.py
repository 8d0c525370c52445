"""Operators that pick by tensors of numbers or truth values (rows of tables, boxes, features under boxes), and those that make
what is written to."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from slimnet.graph.capture import is_told, operator_in, shape_of
from slimnet.graph.findings import Param
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.registry import opaque, rule
from slimnet.graph.values import NONE, Value, compact, live

ZEROS = ("aten.zeros.default", "aten.new_zeros.default")
FILLS = {"zeros_like": 0.0, "ones_like": 1.0}


@rule("new_zeros", "new_ones", "new_full", "new_empty")
def _new(run: Interpreter, node: Node, *_: Any, **__: Any) -> Any:
    """A tensor of a size that the code counts; what it is made from lends the type alone."""
    return run.opaque(node)


@rule("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like")
def _like(run: Interpreter, node: Node, x: Any, fill: Any = None, **_: Any) -> Any:
    """A tensor of the same channels, whatever is in it."""
    if not isinstance(x, Value):
        return run.opaque(node)
    known = FILLS.get(str(node.target).split(".")[1], fill)
    is_known = (
        isinstance(known, int | float) and not (is_told(node) and fill is not None) and node.meta["val"].is_floating_point()
    )
    constant = torch.full_like(live(x.shape), float(known)) if is_known else live(x.shape)
    return Value(x.shape, x.labels, constant)


@rule("index")
def _index(run: Interpreter, node: Node, x: Any, indices: Sequence[Any]) -> Any:
    """Places picked by number or by truth value, of all channels; or rows of a table."""
    rows = len(shape_of(node)) > 1  # else single entries, picked by a truth value for each
    if isinstance(x, Param) and len(x.shape) == 2 and len(indices) == 1 and isinstance(indices[0], Value | Param) and rows:
        run.pin(list(indices), operator_in(node))
        return _rows(run, node, x)
    picked = _picked(x, _ranks(node), shape_of(node)) if isinstance(x, Value) else None
    if picked is None:
        return opaque(run, node, x, *indices)
    run.pin(list(indices), operator_in(node))
    return picked


def _rows(run: Interpreter, node: Node, table: Param) -> Value:
    """Rows of a table picked by number (a bias for each relative position): its columns are channels."""
    shape = shape_of(node)
    labels = run.labels.fresh(shape[-1])
    run.analysis.note(table, 1, labels, "other")
    return Value(shape, labels.reshape([1] * (len(shape) - 1) + [-1]), live(shape))


@rule("index_put")
def _index_put(run: Interpreter, node: Node, x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Any:
    """Places written by number: what is written has the channels of what it is written to."""
    if isinstance(x, Value) and _is_zeros(run, node.args[0]):
        x = Value(x.shape, torch.full((1,) * len(x.shape), NONE), torch.zeros((1,) * len(x.shape), dtype=torch.float64))
    if not isinstance(x, Value) or not isinstance(values, Value):
        return opaque(run, node, x, *indices, values)
    ranks = _ranks(node)
    place, new = _place(x, ranks), _inserted(ranks)
    if place is None or (lacks := len(x.shape) - place[1] + new - len(values.shape)) < 0:
        return opaque(run, node, x, *indices, values)
    first, count = place

    def as_x(tensor: Tensor) -> Tensor | None:
        """Along the dimensions of x; None where something varies from place to place."""
        sizes = [1] * lacks + [*tensor.shape]
        if any(size > 1 for size in sizes[first : first + new]):
            return None
        return tensor.reshape(sizes[:first] + [1] * count + sizes[first + new :])

    over = range(max(0, first - lacks), max(0, first + new - lacks))
    written, constant = as_x(values.labels), as_x(_uniform(values.constant, over))
    if written is None or constant is None:
        return opaque(run, node, x, *indices, values)
    run.pin(list(indices), operator_in(node))
    run.labels.unite(*torch.broadcast_tensors(x.labels, written))  # type: ignore[no-untyped-call]
    labels = torch.where(x.labels == NONE, written, x.labels)
    same = _uniform(x.constant, range(first, first + count))
    stays = constant == 0 if accumulate else same == constant
    return Value(x.shape, labels, compact(torch.where(stays, same, torch.nan)))


def _is_zeros(run: Interpreter, node: Any) -> bool:
    """Whether what a node made is zeros, to which nothing has been written."""
    made = isinstance(node, Node) and str(node.target) in ZEROS
    return made and run.env[node.name] is run.made[node.name]


@rule("torchvision::roi_align", "torchvision::roi_pool")
def _under_boxes(run: Interpreter, node: Node, x: Any, boxes: Any, *_: Any, **__: Any) -> Any:
    """Features under boxes: channels stay what they are, zeros stay zeros (what lies outside of the map counts as zero)."""
    run.pin(boxes, operator_in(node))
    labels = x.along(1) if isinstance(x, Value) and len(x.shape) == 4 else None
    made = node.meta.get("val")
    first = made[0] if isinstance(made, list | tuple) else made
    if labels is None or not isinstance(first, Tensor):
        return opaque(run, node, x, boxes)
    constant = x.constant_along(1)
    held = torch.where(constant == 0, constant, torch.nan)
    run.labels.lose(labels[(constant != 0) & ~constant.isnan()], "constant, but zero where a box leaves the map")
    shape = tuple(int(size) for size in first.shape)
    pooled = Value(shape, labels.reshape(1, -1, 1, 1), compact(held.reshape(1, -1, 1, 1)))
    return [pooled, run.opaque(node)[1]] if isinstance(made, list | tuple) else pooled


def _picked(x: Value, ranks: Sequence[tuple[int, int] | None], shape: tuple[int, ...]) -> Value | None:
    """What remains of a value; None where channels are picked."""
    place = _place(x, ranks)
    if place is None:
        return None
    first, count = place
    over = range(first, first + count)

    def moved(tensor: Tensor) -> Tensor:
        sizes = [size for dim, size in enumerate(tensor.shape) if dim not in over]
        sizes[first:first] = [1] * _inserted(ranks)
        return tensor.reshape(sizes)

    labels, constant = moved(x.labels), moved(_uniform(x.constant, over))
    return Value(shape, labels, compact(constant)) if len(shape) == labels.dim() else None


def _ranks(node: Node) -> list[tuple[int, int] | None]:
    """Of each index: the dimensions that it takes, and those that it makes; None for one that takes all of its dimension."""
    found: list[tuple[int, int] | None] = []
    for index in node.args[1]:  # type: ignore[union-attr]
        value = index.meta.get("val") if isinstance(index, Node) else None
        is_mask = isinstance(value, Tensor) and value.dtype in (torch.bool, torch.uint8)
        found.append(None if value is None else (value.dim(), 1) if is_mask else (1, value.dim()))
    return found


def _place(x: Value, ranks: Sequence[tuple[int, int] | None]) -> tuple[int, int] | None:
    """The first dimension that is picked from and how many are, side by side; None where labels differ along one of them."""
    dims: list[int] = []
    at = 0
    for rank in ranks:
        taken = 1 if rank is None else rank[0]
        dims += [] if rank is None else range(at, at + taken)
        at += taken
    if not dims or dims != list(range(dims[0], dims[-1] + 1)) or dims[-1] >= len(x.shape):
        return None
    return (dims[0], len(dims)) if all(x.labels.shape[dim] == 1 for dim in dims) else None


def _inserted(ranks: Sequence[tuple[int, int] | None]) -> int:
    """How many dimensions stand in the place of those that are picked from."""
    return max((rank[1] for rank in ranks if rank is not None), default=0)


def _uniform(constant: Tensor, dims: Sequence[int]) -> Tensor:
    """Constants that are the same along some dimensions, which become of size 1; NaN where they differ."""

    def along(tensor: Tensor, dim: int) -> Tensor:
        first = tensor.narrow(dim, 0, 1)
        return torch.where((tensor == first).all(dim=dim, keepdim=True), first, torch.nan)

    return functools.reduce(along, dims, constant)
