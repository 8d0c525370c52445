"""Reductions, norms without statistics of their own, and products of activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from slimnet.onnx.program import Op
from slimnet.onnx_surgery.operators.registry import Function, NotFollowedError, first_tensor, numbers, operator, tensor, text

Reduction = Callable[[Tensor, list[int], bool], Tensor]
_REDUCTIONS: dict[str, Reduction] = {
    "ReduceMean": lambda x, axes, keep: torch.mean(x, axes, keepdim=keep),
    "ReduceSum": lambda x, axes, keep: torch.sum(x, axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: torch.amax(x, axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: torch.amin(x, axes, keepdim=keep),
    "ReduceL1": lambda x, axes, keep: torch.sum(x.abs(), axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: torch.sqrt(torch.sum(x * x, axes, keepdim=keep)),
    "ReduceSumSquare": lambda x, axes, keep: torch.sum(x * x, axes, keepdim=keep),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
}


@operator(*_REDUCTIONS)
def _reduce(op: Op, opset: int) -> Function:
    reduction, keep = _REDUCTIONS[op.kind], bool(op.get("keepdims", 1))

    def run(x: Tensor, axes: Any = None) -> Tensor:
        given = op.get("axes", None) if axes is None else axes
        chosen = [] if given is None else numbers(given)
        if not chosen and op.get("noop_with_empty_axes", 0):
            return x
        return reduction(x, [axis % x.dim() for axis in chosen] or list(range(x.dim())), keep)

    return run


@operator("ArgMax", "ArgMin")
def _argmax(op: Op, opset: int) -> Function:
    if op.get("select_last_index", 0):
        raise NotFollowedError("the last of equal maxima")
    function = torch.argmax if op.kind == "ArgMax" else torch.argmin
    return lambda x: function(x, op.get("axis", 0), keepdim=bool(op.get("keepdims", 1)))


@operator("LpNormalization")
def _normalise(op: Op, opset: int) -> Function:
    return lambda x: F.normalize(x, p=op.get("p", 2), dim=op.get("axis", -1))


@operator("LayerNormalization")
def _layer_norm(op: Op, opset: int) -> Function:
    axis, eps = op.get("axis", -1), op.get("epsilon", 1e-5)

    def run(x: Tensor, scale: Any, bias: Any = None) -> Any:
        shape = x.shape[axis % x.dim() :]
        made = F.layer_norm(x, shape, _of(scale, x, shape), _of(bias, x, shape), eps)
        if len(op.outputs) == 1:
            return made
        dims = list(range(axis % x.dim(), x.dim()))
        return made, x.mean(dims, keepdim=True), torch.rsqrt(x.var(dims, unbiased=False, keepdim=True) + eps)

    return run


def _of(value: Any, x: Tensor, shape: torch.Size) -> Tensor | None:
    if value is None:
        return None
    made = tensor(value, x)
    return made if made.shape == shape else made.expand(shape)


@operator("GroupNormalization")
def _group_norm(op: Op, opset: int) -> Function:
    groups, eps = op.get("num_groups", 1), op.get("epsilon", 1e-5)

    def run(x: Tensor, scale: Any, bias: Any) -> Tensor:
        weight, shift = (tensor(value, x) for value in (scale, bias))
        if weight.numel() == groups != x.shape[1]:  # before opset 21 a number a group
            weight, shift = (value.repeat_interleave(x.shape[1] // groups) for value in (weight, shift))
        return F.group_norm(x, groups, weight, shift, eps)

    return run


@operator("InstanceNormalization")
def _instance_norm(op: Op, opset: int) -> Function:
    eps = op.get("epsilon", 1e-5)
    return lambda x, scale, bias: F.instance_norm(x, weight=tensor(scale, x), bias=tensor(bias, x), eps=eps)


@operator("Einsum")
def _einsum(op: Op, opset: int) -> Function:
    def run(*values: Any) -> Tensor:
        like = first_tensor(values)
        return torch.einsum(text(op.get("equation", "")), *[tensor(value, like) for value in values])

    return run
