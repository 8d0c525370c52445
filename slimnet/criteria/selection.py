"""From scores to a selection: how many, and which."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EPSILON = 1e-9
"""Keeps 10 · 0.3 = 3.0000000000000004 and 10 · 0.7 = 6.999999999999999 at the count that was meant."""


def exact_count(size: int, rate: float) -> int:
    """How many of ``size`` channels a pruning rate takes: ⌊size · rate + 1e-9⌋, and never all of them."""
    return max(0, min(math.floor(size * rate + _EPSILON), size - 1))


def lowest(scores: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` lowest scores, lowest first; ties go to the lower index.

    Args:
        scores: (F,); an infinite score is never selected.
        count: how many to take; fewer come back where fewer are finite.

    Returns:
        (≤ count,) int64, on the CPU.
    """
    order = torch.sort(scores.cpu(), stable=True).indices
    candidates = int(torch.isfinite(scores).sum())
    return order[: min(count, candidates)]
