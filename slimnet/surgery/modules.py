"""The three small modules that surgery may leave in a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """What is left of a branch whose output is constant.

    Attributes:
        value: (1, C, 1, …), a buffer.
        full: whether the output gets the shape of the input's batch and places; else it is added by broadcasting.
    """

    value: Tensor

    def __init__(self, value: Tensor, *, full: bool) -> None:
        super().__init__()
        self.register_buffer("value", value)
        self.full = full

    def forward(self, x: Tensor) -> Tensor:
        """Return the constant, (1, C, 1, …) or (N, C, H, …), whatever comes in."""
        return self.value + torch.zeros_like(x[:, :1]) if self.full else self.value


class Stub(nn.Module):
    """A convolution that nobody needs any more: (N, 1, H', …) zeros, of the places that the convolution would have had."""

    def __init__(self, old: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.dilation = old.kernel_size, old.stride, old.dilation
        same = tuple(d * (k - 1) for k, d in zip(old.kernel_size, old.dilation, strict=True))
        named = {"same": same, "valid": (0,) * len(same)}
        self.added = named[old.padding] if isinstance(old.padding, str) else tuple(2 * p for p in old.padding)

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros."""
        numbers = zip(x.shape[2:], self.kernel_size, self.stride, self.added, self.dilation, strict=True)
        places = [(n + p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in numbers]
        return x.new_zeros((x.shape[0], 1, *places))


class Expand(nn.Sequential):
    """Compute live channels only, and put constants between them: concatenate, then gather.

    Attributes:
        index: (C,) int64; for each channel that comes out, its place among the live ones, or one past the last.
        constant: (1, C, 1, …); added to what was gathered; None where it is zero.
    """

    index: Tensor
    constant: Tensor | None

    def __init__(self, inner: nn.Module, index: Tensor, constant: Tensor | None) -> None:
        super().__init__(inner)
        self.register_buffer("index", index)
        self.register_buffer("constant", constant)

    def forward(self, x: Tensor) -> Tensor:
        """Map what the inner module takes to (N, C, …)."""
        live: Tensor = self[0](x)
        padded = torch.cat([live, torch.zeros_like(live[:, :1])], dim=1)
        full = padded.index_select(1, self.index)
        return full if self.constant is None else full + self.constant
