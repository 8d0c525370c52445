"""Norms: batch and instance norms pass labels through, layer and group norms mix channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from slimnet.graph.capture import module_path
from slimnet.graph.findings import Param
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules.registry import channel_value, number, opaque, rule
from slimnet.graph.values import Value, live


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
        return opaque(run, node, x)
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
        run.analysis.norm_behind[weight.name] = module_path(node)


def _norm_constant(
    u: Tensor, weight: Param | None, bias: Param | None, mean: Param | None, var: Param | None, eps: float
) -> Tensor:
    """(C,) constants behind a norm: β + γ(u − μ)/√(σ² + ε); γ = 0 makes any channel the constant β."""

    def entries(param: Param | None, default: float) -> Tensor:
        return torch.full_like(u, default, dtype=torch.float64) if param is None else number(param)

    gamma, beta = entries(weight, 1.0), entries(bias, 0.0)
    normal = (u - entries(mean, 0.0)) / torch.sqrt(entries(var, 1.0) + eps)
    return torch.where(gamma == 0, beta, beta + gamma * normal)


@rule("layer_norm")
def _layer_norm(run: Interpreter, node: Node, x: Value, shape: Sequence[int], *affine: Any, **_: Any) -> Any:
    return _mixing(run, node, x, "LayerNorm mixes channels", affine)


@rule("group_norm")
def _group_norm(run: Interpreter, node: Node, x: Value, groups: int, *affine: Any, **_: Any) -> Any:
    return _mixing(run, node, x, "GroupNorm mixes channels", affine)


def _mixing(run: Interpreter, node: Node, x: Value, reason: str, affine: Sequence[Any]) -> Any:
    """``affine``: scale and shift; computed ones (``1 + weight``) are channels of their own, which must stay as well."""
    if not isinstance(x, Value):
        return opaque(run, node, x, *affine)
    run.pin([x, *affine], f"{reason} ({module_path(node)})")
    return Value(x.shape, x.labels, live(x.shape))
