"""Pools, padding and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from slimnet.onnx.program import Op
from slimnet.onnx_surgery.operators.registry import Function, NotFollowedError, numbers, operator, text


def pads_of(op: Op, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Padding before and behind each place, [x1_begin, x2_begin, …, x1_end, x2_end, …], also where it is automatic."""
    auto = text(op.get("auto_pad", "NOTSET"))
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        return list(op.get("pads", [0] * 2 * len(kernel))) if auto == "NOTSET" else [0] * 2 * len(kernel)
    before, behind = [], []
    for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + dilation * (length - 1) + 1 - size)
        less, more = total // 2, total - total // 2
        before.append(less if auto == "SAME_UPPER" else more)
        behind.append(more if auto == "SAME_UPPER" else less)
    return before + behind


def torch_pads(pads: Sequence[int]) -> list[int]:
    """ONNX's order of pads → torch's: the last dimension first, before and behind."""
    half = len(pads) // 2
    return [pads[side * half + dim] for dim in reversed(range(half)) for side in (0, 1)]


def is_even(pads: Sequence[int]) -> bool:
    """Whether as much is put before as behind."""
    half = len(pads) // 2
    return list(pads[:half]) == list(pads[half:])


def _window(op: Op) -> tuple[list[int], list[int], list[int]]:
    kernel = list(op.get("kernel_shape", []))
    return kernel, list(op.get("strides", [1] * len(kernel))), list(op.get("dilations", [1] * len(kernel)))


@operator("MaxPool")
def _max_pool(op: Op, opset: int) -> Function:
    kernel, strides, dilations = _window(op)
    if len([name for name in op.outputs if name]) > 1:
        raise NotFollowedError("the places of maxima")
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
    ceil = bool(op.get("ceil_mode", 0))

    def run(x: Tensor) -> Tensor:
        pads = pads_of(op, x.shape[2:], kernel, strides, dilations)
        half = pads[: len(kernel)]
        if is_even(pads) and all(pad <= size // 2 for pad, size in zip(half, kernel, strict=True)):
            return pool(x, kernel, strides, half, dilations, ceil)
        if ceil:
            raise NotFollowedError("a pool that rounds up behind uneven padding")
        if any(size != 1 for size in dilations):
            return pool(F.pad(x, torch_pads(pads), value=-torch.inf), kernel, strides, 0, dilations, ceil)
        # a window that reaches over the border holds the border: to repeat it changes no maximum, and keeps constants
        return pool(F.pad(x, torch_pads(pads), mode="replicate"), kernel, strides)

    return run


@operator("AveragePool")
def _average_pool(op: Op, opset: int) -> Function:
    kernel, strides, dilations = _window(op)
    if any(size != 1 for size in dilations):
        raise NotFollowedError("an average pool with gaps")
    pool: Any = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    ceil, with_pad = bool(op.get("ceil_mode", 0)), bool(op.get("count_include_pad", 0))

    def run(x: Tensor) -> Tensor:
        pads = pads_of(op, x.shape[2:], kernel, strides, dilations)
        half = pads[: len(kernel)]
        if is_even(pads) and all(pad <= size // 2 for pad, size in zip(half, kernel, strict=True)):
            return pool(x, kernel, strides, half, ceil, with_pad)  # type: ignore[no-any-return]
        if ceil:
            raise NotFollowedError("a pool that rounds up behind uneven padding")
        if with_pad:
            return pool(F.pad(x, torch_pads(pads)), kernel, strides, 0, ceil)  # type: ignore[no-any-return]
        share = pool(F.pad(torch.ones_like(x[:1, :1]), torch_pads(pads)), kernel, strides, 0, ceil)
        return pool(F.pad(x, torch_pads(pads)), kernel, strides, 0, ceil) / share  # type: ignore[no-any-return]

    return run


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(op: Op, opset: int) -> Function:
    function = torch.mean if op.kind == "GlobalAveragePool" else torch.amax
    return lambda x: function(x, tuple(range(2, x.dim())), keepdim=True)


@operator("Pad")
def _pad(op: Op, opset: int) -> Function:
    mode = text(op.get("mode", "constant"))
    modes = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}
    if mode not in modes:
        raise NotFollowedError(f"padding in mode {mode}")

    def run(x: Tensor, given: Any = None, value: Any = None, axes: Any = None) -> Tensor:
        pads = numbers(op.get("pads", None) if given is None else given)
        fill = op.get("value", 0.0) if value is None else float(np.asarray(value).reshape(-1)[0])
        if axes is not None:
            chosen = [axis % x.dim() for axis in numbers(axes)]
            full = [0] * 2 * x.dim()
            for place, axis in enumerate(chosen):
                full[axis], full[x.dim() + axis] = pads[place], pads[len(chosen) + place]
            pads = full
        if mode == "constant":
            return F.pad(x, _trimmed(torch_pads(pads)), value=fill)
        if x.dim() > 2 and not any((*pads[:2], *pads[x.dim() : x.dim() + 2])):
            return F.pad(x, torch_pads(pads)[: 2 * (x.dim() - 2)], mode=modes[mode])
        return _repeated(x, pads, mode)

    return run


def _repeated(x: Tensor, pads: Sequence[int], mode: str) -> Tensor:
    """Padding with what is there, along any dimension."""
    for dim in range(x.dim()):
        size, before, behind = x.shape[dim], pads[dim], pads[x.dim() + dim]
        if before or behind:
            places = torch.arange(-before, size + behind)
            last = size - 1
            inside = places.clamp(0, last) if mode == "edge" else last - (last - places.abs()).abs()
            x = x.index_select(dim, inside)
    return x


def _trimmed(pads: list[int]) -> list[int]:
    """Without the leading dimensions that are not padded."""
    while len(pads) > 2 and pads[-2:] == [0, 0]:
        pads = pads[:-2]
    return pads


@operator("Resize", "Upsample")
def _resize(op: Op, opset: int) -> Function:
    mode = text(op.get("mode", "nearest"))
    old = op.kind == "Upsample" or opset < 11
    where = "asymmetric" if old else text(op.get("coordinate_transformation_mode", "half_pixel"))
    rounding = "floor" if old else text(op.get("nearest_mode", "round_prefer_floor"))
    if op.get("antialias", 0) or op.get("axes", None) is not None or op.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotFollowedError("a resize with options of its own")

    def run(x: Tensor, *inputs: Any) -> Tensor:
        sizes = _resized(op, x, inputs, old=old)
        whole = all(new % size == 0 for new, size in zip(sizes, x.shape[2:], strict=True))
        if mode == "nearest" and whole and (rounding, where) in _WHOLE:
            return F.interpolate(x, size=sizes, mode="nearest")
        named = {("linear", 1): "linear", ("linear", 2): "bilinear", ("linear", 3): "trilinear", ("cubic", 2): "bicubic"}
        kind = named.get((mode, x.dim() - 2))
        if kind is None or where not in ("half_pixel", "pytorch_half_pixel", "align_corners") or _is_uneven(sizes, where):
            raise NotFollowedError(f"a resize in mode {mode}, {where}")
        if kind == "bicubic" and op.get("cubic_coeff_a", -0.75) != -0.75:
            raise NotFollowedError("a cubic resize with a coefficient of its own")
        return F.interpolate(x, size=sizes, mode=kind, align_corners=where == "align_corners")

    return run


def _is_uneven(sizes: Sequence[int], where: str) -> bool:
    """Whether a place of one pixel is chosen in another way than torch does."""
    return where == "pytorch_half_pixel" and 1 in sizes


_WHOLE = {
    ("floor", "asymmetric"),
    ("round_prefer_floor", "half_pixel"),
    ("round_prefer_ceil", "half_pixel"),
    ("floor", "half_pixel"),
    ("round_prefer_floor", "pytorch_half_pixel"),
}
"""Ways to choose the nearest pixel that agree where the size is multiplied by a whole number."""


def _resized(op: Op, x: Tensor, inputs: Sequence[Any], *, old: bool) -> list[int]:
    """Sizes of the places of the output."""
    if len(inputs) == 3 and inputs[2] is not None and np.size(inputs[2]):  # roi, scales, sizes
        sizes = numbers(inputs[2])
    else:
        scales = op.get("scales", None) if not inputs else inputs[0 if old else 1]
        if scales is None or isinstance(scales, Tensor):
            raise NotFollowedError("a resize to a size that depends on the picture")
        factors = np.asarray(scales).reshape(-1).tolist()
        exact = [size * factor for size, factor in zip(x.shape, factors, strict=True)]
        sizes = [int(np.floor(size + 1e-6)) for size in exact]
        if any(abs(size - whole) > 1e-6 for size, whole in zip(exact, sizes, strict=True)) and not old:
            raise NotFollowedError("a resize by a scale that leaves parts of a pixel")
    if sizes[:2] != list(x.shape[:2]):
        raise NotFollowedError("a resize over channels")
    return sizes[2:]


@operator("LRN")
def _response_norm(op: Op, opset: int) -> Function:
    size, alpha, beta, bias = op.get("size", 1), op.get("alpha", 1e-4), op.get("beta", 0.75), op.get("bias", 1.0)
    if size % 2 == 0:
        raise NotFollowedError("a response norm over an even number of channels")
    return lambda x: F.local_response_norm(x, size, alpha, beta, bias)


@operator("DepthToSpace", "SpaceToDepth")
def _blocks(op: Op, opset: int) -> Function:
    size = op.get("blocksize", 1)
    if text(op.get("mode", "DCR")) != "CRD":
        return lambda x: _reordered(op, x, size)
    return (lambda x: F.pixel_shuffle(x, size)) if op.kind == "DepthToSpace" else (lambda x: F.pixel_unshuffle(x, size))


def _reordered(op: Op, x: Tensor, size: int) -> Tensor:
    n, c, h, w = x.shape
    if op.kind == "DepthToSpace":
        return x.reshape(n, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * size, w * size)
    return x.reshape(n, c, h // size, size, w // size, size).permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // size, w // size)
