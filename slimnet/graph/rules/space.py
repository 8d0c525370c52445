"""Pools and reductions over space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.fx import Node

from slimnet.graph.capture import shape_of
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.registry import channel_value, opaque, rule, sizes
from slimnet.graph.values import Value, compact, live


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
    exact = divisor_override is None and (not any(sizes(padding)) or not count_include_pad)
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


@rule("mean", "amax", "amin", "sum")
def _reduce(run: Interpreter, node: Node, x: Any, dims: Any = None, keepdim: bool = False, **_: Any) -> Any:
    if not isinstance(x, Value) or dims is None:
        return opaque(run, node, x)
    axes = sorted({dim % len(x.shape) for dim in sizes(dims)})
    if any(dim in x.varying for dim in axes):
        return opaque(run, node, x)
    uniform = all(x.constant.shape[dim] == 1 for dim in axes)
    constant = x.constant if uniform else live(x.shape)
    if "sum" in str(node.target):  # of how many places, depends on the resolution
        constant = torch.where(constant == 0, constant, torch.nan)
    labels = x.labels
    if not keepdim:
        for dim in reversed(axes):
            labels, constant = labels.squeeze(dim), constant.squeeze(dim)
    return Value(shape_of(node), labels, compact(constant))
