"""Where a layer stands: all that its time depends on, but its channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["conv", "depthwise", "linear"]
Pair = tuple[int, int]


@dataclass(frozen=True, order=True)
class Site:
    """A place for a convolution or a linear layer.

    Attributes:
        kind: ``"conv"``, ``"depthwise"`` (one filter a channel) or ``"linear"``.
        size: (H, W) of the map that it reads; (1, 1) for a linear layer.
        kernel: (height, width).
        stride: likewise.
        padding: likewise.
        dilation: likewise.
    """

    kind: Kind
    size: Pair = (1, 1)
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @property
    def key(self) -> str:
        """A name, unique and readable: ``"conv 3x3 s1x1 p1x1 d1x1 on 56x56"``."""
        kernel, stride, padding, dilation, size = (
            "x".join(map(str, pair)) for pair in (self.kernel, self.stride, self.padding, self.dilation, self.size)
        )
        return self.kind if self.kind == "linear" else f"{self.kind} {kernel} s{stride} p{padding} d{dilation} on {size}"

    @property
    def output_size(self) -> Pair:
        """(H, W) of the map that it makes."""
        sides = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides)
        return height, width
