"""Norms: batch and instance norms pass labels through, group norms tie those of a norm group, layer norms pin them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from slimnet.graph.capture import module_path
from slimnet.graph.findings import Param
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.pieces import count_norm_groups
from slimnet.graph.rules.registry import channel_value, number, opaque, rule
from slimnet.graph.values import NONE, Value, live


@rule("batch_norm", "instance_norm")
def _batch_norm(
    run: Interpreter,
    node: Node,
    x: Any,
    weight: Param | None,
    bias: Param | None,
    mean: Param | None,
    var: Param | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn: bool = False,
) -> Any:
    params = [param for param in (weight, bias, mean, var) if param is not None]
    if not isinstance(x, Value) or not all(isinstance(param, Param) for param in params):
        return opaque(run, node, x, *params)  # a computed scale (of a standardised weight) is made of channels of its own
    labels = x.along(1)
    if labels is None:
        run.pin(x, f"{module_path(node)} normalises channels that differ from place to place")
        return Value(x.shape, x.labels, live(x.shape))
    for param in params:
        run.analysis.note(param, 0, labels, "norm")
    _note_norm_behind(run, node)
    constant = _norm_constant(x.constant_along(1), weight, bias, mean, var, eps)
    if use_input_stats:  # instance statistics: a constant channel is centred to zero
        constant = _norm_constant(x.constant_along(1) * 0, weight, bias, None, None, eps)
    return channel_value(x.shape, 1, labels, constant)


def _note_norm_behind(run: Interpreter, node: Node) -> None:
    source = node.args[0]
    if not (isinstance(source, Node) and len(source.users) == 1 and len(source.args) > 1):
        return
    weight = run.env.get(getattr(source.args[1], "name", ""))
    if isinstance(weight, Param):
        run.analysis.norm_behind[weight.name] = module_path(node).partition("@")[0]


def _norm_constant(
    u: Tensor, weight: Param | None, bias: Param | None, mean: Param | None, var: Param | None, eps: float
) -> Tensor:
    """(C,) constants behind a norm: β + γ(u − μ)/√(σ² + ε); γ = 0 makes any channel the constant β."""

    normal = (u - _entries(mean, u, 0.0)) / torch.sqrt(_entries(var, u, 1.0) + eps)
    return _affine(normal, weight, bias)


def _affine(normal: Tensor, weight: Param | None, bias: Param | None) -> Tensor:
    """(C,) β + γ·normal; γ = 0 makes any channel the constant β."""
    gamma, beta = _entries(weight, normal, 1.0), _entries(bias, normal, 0.0)
    return torch.where(gamma == 0, beta, beta + gamma * normal)


def _entries(param: Param | None, like: Tensor, default: float) -> Tensor:
    return torch.full_like(like, default, dtype=torch.float64) if param is None else number(param)


@rule("layer_norm", "rms_norm")
def _layer_norm(run: Interpreter, node: Node, x: Value, shape: Sequence[int], *affine: Any, **_: Any) -> Any:
    """Whatever lies within the normalised dimensions counts in mean and variance; labels that do not vary there go through."""
    if isinstance(x, Value) and not any(dim >= len(x.shape) - len(shape) for dim in x.varying):
        return Value(x.shape, x.labels, live(x.shape))
    counts = "mean and variance of LayerNorm" if "layer" in str(node.target) else "mean square of RMSNorm"
    return _mixing(run, node, x, f"counts in the {counts}", affine)


@rule("group_norm")
def _group_norm(
    run: Interpreter, node: Node, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    """All channels of a norm group live and go together; where all of them are constant, so is what comes out."""
    labels = x.along(1) if isinstance(x, Value) else None
    affine = [param for param in (weight, bias) if param is not None]
    followed = labels is not None and bool((labels != NONE).all()) and all(isinstance(param, Param) for param in affine)
    if labels is None or not followed or groups == 1:
        return _mixing(run, node, x, "counts in the mean and variance of GroupNorm", affine)
    blocks = labels.reshape(groups, -1)
    run.labels.unite(blocks[:, :1].expand_as(blocks), blocks)
    count_norm_groups(run, node, x, blocks)
    for param in affine:
        run.analysis.note(param, 0, labels, "norm")
    _note_norm_behind(run, node)
    constants = x.constant_along(1).reshape(groups, -1)
    normal = (constants - constants.mean(1, keepdim=True)) / torch.sqrt(constants.var(1, keepdim=True, correction=0) + eps)
    constant = _affine(normal.reshape(-1), weight, bias)
    lost = ~constants.isnan() & constants.isnan().any(dim=1, keepdim=True)
    run.labels.lose(blocks[lost], f"constant, but beside live channels of its norm group ({module_path(node)})")
    return channel_value(x.shape, 1, run.labels.roots(labels), constant)


def _mixing(run: Interpreter, node: Node, x: Value, reason: str, affine: Sequence[Any]) -> Any:
    """``affine``: scale and shift; computed ones (``1 + weight``) are channels of their own, which must stay as well."""
    if not isinstance(x, Value):
        return opaque(run, node, x, *affine)
    run.pin([x, *affine], f"{reason} ({module_path(node)})")
    return Value(x.shape, x.labels, live(x.shape))
