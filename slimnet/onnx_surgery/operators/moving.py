"""Operators that move data, and what is known of shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from slimnet.onnx.program import Op
from slimnet.onnx_surgery.operators.registry import Function, NotFollowedError, first_tensor, numbers, operator, tensor


@operator("Shape")
def _shape(op: Op, opset: int) -> Function:
    return lambda x: np.asarray(list(x.shape)[op.get("start", 0) : op.get("end", None)], dtype=np.int64)


@operator("Size")
def _size(op: Op, opset: int) -> Function:
    return lambda x: np.asarray(x.numel(), dtype=np.int64)


@operator("Flatten")
def _flatten(op: Op, opset: int) -> Function:
    axis = op.get("axis", 1)

    def run(x: Tensor) -> Tensor:
        first = axis if axis >= 0 else axis + x.dim()
        if first == 1:
            return torch.flatten(x, 1)
        return x.reshape(int(np.prod(x.shape[:first])), -1)

    return run


@operator("Reshape")
def _reshape(op: Op, opset: int) -> Function:
    """See `slimnet.onnx_surgery.layers.Reshape`, which takes its place where the sizes are known."""

    def run(x: Tensor, shape: Any = None) -> Tensor:
        return x.reshape(target_of(x, op.get("shape", None) if shape is None else shape, op))

    return run


def target_of(x: Tensor, shape: Any, op: Op) -> list[int]:
    """The sizes that a Reshape asks for; 0 copies one of the input's."""
    wanted = numbers(shape)
    if op.get("allowzero", 0):
        return wanted
    return [x.shape[dim] if size == 0 else size for dim, size in enumerate(wanted)]


@operator("Transpose")
def _transpose(op: Op, opset: int) -> Function:
    return lambda x: x.permute(list(op.get("perm", list(reversed(range(x.dim()))))))


@operator("Squeeze")
def _squeeze(op: Op, opset: int) -> Function:
    def run(x: Tensor, axes: Any = None) -> Tensor:
        given = op.get("axes", None) if axes is None else axes
        chosen = [i for i, n in enumerate(x.shape) if n == 1] if given is None else [axis % x.dim() for axis in numbers(given)]
        for axis in sorted(chosen, reverse=True):
            x = x.squeeze(axis)
        return x

    return run


@operator("Unsqueeze")
def _unsqueeze(op: Op, opset: int) -> Function:
    def run(x: Tensor, axes: Any = None) -> Tensor:
        chosen = numbers(op.get("axes", None) if axes is None else axes)
        for axis in sorted(axis % (x.dim() + len(chosen)) for axis in chosen):
            x = x.unsqueeze(axis)
        return x

    return run


@operator("Concat")
def _concat(op: Op, opset: int) -> Function:
    def run(*values: Any) -> Tensor:
        like = first_tensor(values)
        return torch.cat([tensor(value, like) for value in values], dim=op.get("axis", 1))

    return run


@operator("Split")
def _split(op: Op, opset: int) -> Function:
    axis, count = op.get("axis", 0), len(op.outputs)

    def run(x: Tensor, split: Any = None) -> tuple[Tensor, ...]:
        sizes = op.get("split", None) if split is None else split
        if sizes is not None:
            return torch.split(x, numbers(sizes), dim=axis)
        each = -(-x.shape[axis] // count)
        return torch.split(x, each, dim=axis)

    return run


@operator("Slice")
def _slice(op: Op, opset: int) -> Function:
    def run(x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Tensor:
        begin = numbers(op.get("starts", None) if starts is None else starts)
        end = numbers(op.get("ends", None) if ends is None else ends)
        dims = op.get("axes", None) if axes is None else axes
        chosen = list(range(len(begin))) if dims is None else [axis % x.dim() for axis in numbers(dims)]
        stride = [1] * len(begin) if steps is None else numbers(steps)
        for first, last, axis, step in zip(begin, end, chosen, stride, strict=True):
            if step < 0:
                raise NotFollowedError("a slice that runs backwards")
            if (first, step) == (0, 1) and last >= x.shape[axis]:
                continue
            places = [slice(None)] * axis + [slice(first, min(last, torch.iinfo(torch.int64).max), step)]
            x = x[tuple(places)]
        return x

    return run


@operator("Gather")
def _gather(op: Op, opset: int) -> Function:
    axis = op.get("axis", 0)

    def run(x: Any, indices: Any) -> Tensor:
        like = first_tensor((x, indices))
        data = tensor(x, like)
        if isinstance(indices, np.ndarray) and indices.ndim == 0:
            return data.select(axis, int(indices))
        places = tensor(indices, like)
        picked = data.index_select(axis, places.reshape(-1) % data.shape[axis])
        first = axis % data.dim()
        return picked.reshape((*data.shape[:first], *places.shape, *data.shape[first + 1 :]))

    return run


@operator("Expand")
def _expand(op: Op, opset: int) -> Function:
    def run(x: Tensor, shape: Any) -> Tensor:
        return x.expand(torch.broadcast_shapes(tuple(x.shape), tuple(numbers(shape))))  # type: ignore[no-untyped-call]

    return run


@operator("Tile")
def _tile(op: Op, opset: int) -> Function:
    return lambda x, repeats: x.repeat(numbers(repeats))


@operator("ConstantOfShape", "Range", "CumSum", "GatherND", "NonZero", "ScatterElements", "ScatterND", "EyeLike", "OneHot")
def _of_shapes(op: Op, opset: int) -> Function:
    """Computed from shapes alone (`Apply` does so where no tensor comes in)."""

    def run(*values: Any) -> Any:
        raise NotFollowedError("an operator that slimnet does not know")

    return run
