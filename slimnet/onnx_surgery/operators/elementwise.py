"""Element by element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from slimnet.onnx.program import Op
from slimnet.onnx_surgery.operators.registry import (
    Function,
    NotFollowedError,
    first_tensor,
    operand,
    operator,
    tensor,
    text,
)

_PLAIN: dict[str, Any] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Asin": torch.asin,
    "Atan": torch.atan,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
_TWO: dict[str, Any] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Pow": torch.pow,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
}
_MANY: dict[str, Any] = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add}


@operator(*_PLAIN)
def _plain(op: Op, opset: int) -> Function:
    function: Function = _PLAIN[op.kind]
    return function


@operator(*_TWO)
def _two(op: Op, opset: int) -> Function:
    def run(left: Any, right: Any) -> Tensor:
        like = first_tensor((left, right))
        function = _TWO[op.kind]
        left, right = operand(left, like), operand(right, like)
        if not isinstance(left, Tensor):
            left = torch.tensor(left, dtype=like.dtype) if function not in (torch.add, torch.mul) else left
            return function(left, right) if isinstance(left, Tensor) else function(right, left)  # type: ignore[no-any-return]
        return function(left, right)  # type: ignore[no-any-return]

    return run


@operator("Div")
def _divide(op: Op, opset: int) -> Function:
    def run(left: Any, right: Any) -> Tensor:
        like = first_tensor((left, right))
        mode = None if like.is_floating_point() else "trunc"
        return torch.div(tensor(left, like), operand(right, like), rounding_mode=mode)

    return run


@operator("Mod")
def _mod(op: Op, opset: int) -> Function:
    def run(left: Any, right: Any) -> Tensor:
        like = first_tensor((left, right))
        return (torch.fmod if op.get("fmod", 0) else torch.remainder)(tensor(left, like), operand(right, like))

    return run


@operator(*_MANY)
def _many(op: Op, opset: int) -> Function:
    def run(*values: Any) -> Tensor:
        like = first_tensor(values)
        result = tensor(values[0], like)
        for value in values[1:]:
            result = _MANY[op.kind](result, tensor(value, like))
        return result

    return run


@operator("Mean")
def _mean(op: Op, opset: int) -> Function:
    def run(*values: Any) -> Tensor:
        like = first_tensor(values)
        result = tensor(values[0], like)
        for value in values[1:]:
            result = result + tensor(value, like)
        return result / len(values)

    return run


@operator("Where")
def _where(op: Op, opset: int) -> Function:
    def run(condition: Any, left: Any, right: Any) -> Tensor:
        like = first_tensor([value for value in (left, right, condition) if isinstance(value, Tensor)])
        flags = tensor(condition, like)
        return torch.where(flags, tensor(left, like), tensor(right, like))

    return run


def _array(value: Any) -> Any:
    return value if isinstance(value, Tensor) else np.asarray(value)


@operator("Clip")
def _clip(op: Op, opset: int) -> Function:
    def run(x: Tensor, low: Any = None, high: Any = None) -> Tensor:
        low, high = (op.get(name, None) if value is None else value for name, value in (("min", low), ("max", high)))
        ends = [None if value is None else operand(_array(value), x) for value in (low, high)]
        for limit, end in ((torch.clamp_min, ends[0]), (torch.clamp_max, ends[1])):
            x = x if end is None else limit(x, end)
        return x

    return run


@operator("CastLike")
def _cast_like(op: Op, opset: int) -> Function:
    def run(x: Any, like: Any) -> Tensor:
        kind = like.dtype if isinstance(like, Tensor) else torch.from_numpy(np.empty(0, like.dtype)).dtype
        made = x if isinstance(x, Tensor) else torch.tensor(x)
        return made.to(kind)

    return run


@operator("Cast")
def _cast(op: Op, opset: int) -> Function:
    """To whole numbers; see `slimnet.onnx_surgery.layers` for the others."""
    kinds = {2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 9: torch.bool}
    kind = kinds.get(op.get("to", 0))
    if kind is None:
        raise NotFollowedError("a cast to another kind of number")
    return lambda x: x.to(kind)


@operator("LeakyRelu")
def _leaky(op: Op, opset: int) -> Function:
    return lambda x: F.leaky_relu(x, op.get("alpha", 0.01))


@operator("ThresholdedRelu")
def _thresholded(op: Op, opset: int) -> Function:
    return lambda x: F.threshold(x, op.get("alpha", 1.0), 0.0)


@operator("Elu")
def _elu(op: Op, opset: int) -> Function:
    return lambda x: F.elu(x, op.get("alpha", 1.0))


@operator("Celu")
def _celu(op: Op, opset: int) -> Function:
    return lambda x: F.celu(x, op.get("alpha", 1.0))


@operator("Selu")
def _selu(op: Op, opset: int) -> Function:
    alpha, gamma = op.get("alpha", 1.67326319217681884765625), op.get("gamma", 1.05070102214813232421875)
    return lambda x: gamma * torch.where(x > 0, x, alpha * torch.expm1(x))


@operator("HardSigmoid")
def _hard_sigmoid(op: Op, opset: int) -> Function:
    alpha, beta = op.get("alpha", 0.2), op.get("beta", 0.5)
    return lambda x: torch.clamp(x * alpha + beta, 0.0, 1.0)


@operator("Gelu")
def _gelu(op: Op, opset: int) -> Function:
    return lambda x: F.gelu(x, approximate=text(op.get("approximate", "none")))


@operator("Identity", "Dropout")
def _same(op: Op, opset: int) -> Function:
    several = len([name for name in op.outputs if name]) > 1

    def run(x: Tensor, ratio: Any = None, training: Any = None) -> Any:
        if training is not None and bool(np.any(training)):
            raise NotFollowedError("a dropout that is always on")
        return (x, torch.ones_like(x, dtype=torch.bool)) if several else x

    return run


@operator("Softmax", "LogSoftmax")
def _softmax(op: Op, opset: int) -> Function:
    function = F.softmax if op.kind == "Softmax" else F.log_softmax
    axis = op.get("axis", -1 if opset >= 13 else 1)
    if opset >= 13:
        return lambda x: function(x, dim=axis)

    def run(x: Tensor) -> Tensor:
        first = axis % x.dim()
        if math.prod(x.shape[first + 1 :]) == 1:
            return function(x, dim=first)
        return function(x.flatten(first), dim=first).reshape(x.shape)  # all dimensions behind it are one, before opset 13

    return run
