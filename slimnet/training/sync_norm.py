"""Batch normalisation over the batches of all processes, on the CPU too (torch's SyncBatchNorm needs a GPU).

A module's class is exchanged in place, so parameters, buffers, hooks and state-dict names stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from slimnet._modes import widened


class _AllSum(torch.autograd.Function):
    """Sum over processes, forward and backward."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class _Synced(nn.modules.batchnorm._BatchNorm):
    """The forward pass of a norm whose batch is spread over processes."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's own name)
        if not self.training:
            return super().forward(input)
        wide = widened(input)
        mean, variance, count = _moments(wide)
        self._update(mean.detach(), variance.detach(), count)
        scale = torch.rsqrt(variance + self.eps)
        shift = -mean * scale
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        shape = (1, -1) + (1,) * (input.dim() - 2)
        return (wide * scale.to(wide.dtype).view(shape) + shift.to(wide.dtype).view(shape)).to(input.dtype)

    def _update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and count () of (N, C, …) over all processes, in float64."""
    dims = [dim for dim in range(x.dim()) if dim != 1]
    local = x.new_tensor(x.numel() / x.shape[1], dtype=torch.float64)
    mean = x.sum(dims, dtype=torch.float64) / local.clamp(min=1)
    centred = x - mean.to(x.dtype).view(1, -1, *(1,) * (x.dim() - 2))
    square = centred.square().sum(dims, dtype=torch.float64)
    packed = torch.cat([mean * local, square + local * mean.square(), local[None]])
    total = _AllSum.apply(packed)
    channels, count = x.shape[1], total[-1].detach()
    mean = total[:channels] / count
    return mean, (total[channels:-1] / count - mean.square()).clamp(min=0), count


class SyncBatchNorm1d(_Synced, nn.BatchNorm1d):
    """BatchNorm1d over all processes."""


class SyncBatchNorm2d(_Synced, nn.BatchNorm2d):
    """BatchNorm2d over all processes."""


class SyncBatchNorm3d(_Synced, nn.BatchNorm3d):
    """BatchNorm3d over all processes."""


_SYNCED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SyncBatchNorm1d,
    nn.BatchNorm2d: SyncBatchNorm2d,
    nn.BatchNorm3d: SyncBatchNorm3d,
}


@contextmanager
def synced_norms(model: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Inside, the batch norms of ``model`` share statistics between processes (in place, undone after)."""
    changed = [(module, type(module)) for module in model.modules() if enabled and type(module) in _SYNCED]
    for module, kind in changed:
        module.__class__ = _SYNCED[kind]
    try:
        yield
    finally:
        for module, kind in changed:
            module.__class__ = kind
