"""Pools and reductions over space."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from slimnet.graph.analysis import Interpreter
from slimnet.graph.capture import shape_of
from slimnet.graph.rules._core import channel_value, opaque, rule, sizes
from slimnet.graph.values import Value, compact, live


@rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_nearest1d", "upsample_nearest3d",
)  # fmt: skip
def _pool(run: Interpreter, node: Node, x: Any, *_: Any, **__: Any) -> Any:
    """A constant channel stays what it is; labels must not differ over space."""
    return _over_space(run, node, x, keeps_constant=True)


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
    labels = x.along(1) if isinstance(x, Value) and shape else None
    if labels is None:
        return opaque(run, node, x)
    constant = x.constant_along(1)
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
    factor = float(math.prod(x.shape[dim] for dim in axes)) if "sum" in str(node.target) else 1.0
    uniform = all(x.constant.shape[dim] == 1 for dim in axes)
    constant = x.constant * factor if uniform else live(x.shape)
    labels = x.labels
    if not keepdim:
        for dim in reversed(axes):
            labels, constant = labels.squeeze(dim), constant.squeeze(dim)
    return Value(shape_of(node), labels, compact(constant))
