"""Pools and reductions over space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from slimnet.graph.capture import operator_in, shape_of
from slimnet.graph.findings import Param, Sum
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.pointwise import pointwise
from slimnet.graph.rules.registry import channel_value, numbers_vary, opaque, rule, sizes
from slimnet.graph.values import NONE, Value, compact


@rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d", "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip
def _pool(run: Interpreter, node: Node, x: Any, *_: Any, **__: Any) -> Any:
    """A constant channel stays what it is; labels must not differ over space."""
    return _over_space(run, node, x, keeps_constant=True)


@rule("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _max_pool_with_places(run: Interpreter, node: Node, x: Any, *_: Any, **__: Any) -> Any:
    """The maxima are a pool; their places are of no use to a channel."""
    shapes = [tuple(int(size) for size in value.shape) for value in node.meta["val"]]
    if not isinstance(x, Value) or not _is_image(x, node) or x.along(1) is None:
        return opaque(run, node, x)
    return [_pooled(x, shapes[0], keeps_constant=True), run.opaque(node)[1]]


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(
    run: Interpreter,
    node: Node,
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    padded = any(sizes(padding)) or numbers_vary(run, node)
    exact = divisor_override is None and (not padded or not count_include_pad)
    return _over_space(run, node, x, keeps_constant=exact)


def _over_space(run: Interpreter, node: Node, x: Any, *, keeps_constant: bool) -> Any:
    shape = shape_of(node)
    if not isinstance(x, Value) or not shape or not _is_image(x, node) or x.along(1) is None:
        return opaque(run, node, x)
    pooled = _pooled(x, shape, keeps_constant=keeps_constant)
    return pooled if keeps_constant else _fade(run, node, x, pooled)


def _fade(run: Interpreter, node: Node, x: Value, pooled: Value) -> Value:
    """Behind an average pool that counts zero padding, a constant fades at the border: in the same way in all channels."""
    constant, labels = x.constant_along(1), x.along(1)
    fades = ~constant.isnan() & (constant != 0)
    assert labels is not None
    run.labels.lose(labels[fades], f"constant, but not at the border of an average pool ({node.name})")
    return replace(pooled, faded=constant)


def _is_image(x: Value, node: Node) -> bool:
    """Whether there are a batch and a channel dimension before the ones that a pool works on (else it may pool channels)."""
    name = str(node.target).removeprefix("aten.").split(".")[0].removesuffix("_aa")
    return len(x.shape) == int(name[-2]) + 2


def _pooled(x: Value, shape: tuple[int, ...], *, keeps_constant: bool) -> Value:
    labels, constant = x.along(1), x.constant_along(1)
    assert labels is not None
    if not keeps_constant:
        constant = torch.where(constant == 0, constant, torch.nan)
    return channel_value(shape, 1, labels, constant)


@rule("mean", "amax", "amin", "sum", "max", "min")
def _reduce(run: Interpreter, node: Node, x: Any, dims: Any = None, keepdim: bool = False, **_: Any) -> Any:
    if isinstance(dims, Value | Param):  # the larger of two
        return pointwise(run, node, x, dims)
    if not isinstance(x, Value) or not isinstance(dims, int | list | tuple):
        return opaque(run, node, x)
    adds = "sum" in str(node.target)
    axes = sorted({dim % len(x.shape) for dim in sizes(dims)}) or list(range(len(x.shape)))
    over_channels = any(dim in x.varying for dim in axes)
    if over_channels and (not adds or len(x.varying) > 1):
        return opaque(run, node, x)
    made = node.meta.get("val")
    if isinstance(made, list | tuple):  # the places of the maxima are of no use to a channel
        shape = tuple(int(size) for size in made[0].shape)
        return [_reduced(x.labels, x.constant, axes, keepdim, shape), run.opaque(node)[1]]
    labels, constant = _add_up(run, x) if over_channels else (x.labels, x.constant)
    result = _reduced(labels, constant, axes, keepdim, shape_of(node))
    if adds:  # of how many places, depends on the resolution
        return replace(result, constant=compact(torch.where(result.constant == 0, result.constant, torch.nan)))
    return result


def _reduced(labels: Tensor, constant: Tensor, axes: list[int], keepdim: bool, shape: tuple[int, ...]) -> Value:
    for dim in axes:
        first = constant.narrow(dim, 0, 1)
        constant = torch.where((constant == first).all(dim=dim, keepdim=True), first, torch.nan)
    if not keepdim:
        for dim in reversed(axes):
            labels, constant = labels.squeeze(dim), constant.squeeze(dim)
    return Value(shape, labels, compact(constant))


def _add_up(run: Interpreter, x: Value) -> tuple[Tensor, Tensor]:
    """Labels and constants of channels that are added up: what is zero adds nothing, and no channel comes out."""
    axis = x.varying[0]
    labels, zero = x.along(axis), x.constant_along(axis) == 0
    assert labels is not None
    run.analysis.sums.append(Sum(labels, ~zero))
    one = [1] * len(x.shape)
    return torch.full(one, NONE), torch.full(one, 0.0 if bool(zero.all()) else torch.nan, dtype=torch.float64)


@rule("pixel_shuffle")
def _pixel_shuffle(run: Interpreter, node: Node, x: Any, factor: int) -> Any:
    """r² channels become the places of one: they live and go together, and are constant where all have the same value."""
    labels = x.along(-3) if isinstance(x, Value) and len(x.shape) == 4 else None
    if labels is None or bool((labels == NONE).any()):
        return opaque(run, node, x)
    rows = labels.reshape(-1, factor * factor)
    run.labels.unite(rows[:, :1].expand_as(rows), rows)
    constants = x.constant_along(1).reshape(-1, factor * factor)
    same = (constants == constants[:, :1]).all(dim=1)
    given = ~constants.isnan().any(dim=1) & (constants != 0).any(dim=1) & ~same
    run.labels.lose(rows[given, 0], f"constant, but not the same at all places ({operator_in(node)})")
    return channel_value(shape_of(node), 1, rows[:, 0], torch.where(same, constants[:, 0], torch.nan))


@rule("pixel_unshuffle")
def _pixel_unshuffle(run: Interpreter, node: Node, x: Any, factor: int) -> Any:
    """The places of one channel become r² channels of one label."""
    labels = x.along(-3) if isinstance(x, Value) and len(x.shape) == 4 else None
    if labels is None:
        return opaque(run, node, x)
    every = labels.repeat_interleave(factor * factor), x.constant_along(1).repeat_interleave(factor * factor)
    return channel_value(shape_of(node), 1, *every)
