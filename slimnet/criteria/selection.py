"""From scores to a selection: how many, and which."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from slimnet.fields import one_of
from slimnet.names import RANKINGS, Ranking

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


def select(scores: Mapping[str, Tensor], rate: float, ranking: Ranking) -> dict[str, Tensor]:
    """Group name → indices of the channels to close; never all of a group.

    Args:
        scores: group name → (size,) scores; the lowest close first.
        rate: share to close, of each group or of all.
        ranking: ``"group"``: ⌊F · rate⌋ channels of every group; ``"global"``: the lowest scores of all groups.

    Raises:
        ArgumentError: if ``ranking`` is unknown.
    """
    if ranking == "group":
        return {name: lowest(values, exact_count(len(values), rate)) for name, values in scores.items()}
    one_of(*RANKINGS).check("`ranking`", ranking)
    ranked = sorted((value, name) for name, values in scores.items() for value in values.sort().values.tolist()[:-1])
    total = sum(len(values) for values in scores.values())
    counts = Counter(name for _, name in ranked[: int(total * rate + 1e-9)])
    return {name: lowest(values, counts[name]) for name, values in scores.items()}


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """Which weights stay when the ⌊N · sparsity⌋ of least magnitude go.

    Args:
        weight: any tensor of N weights.
        sparsity: the share that goes, in [0, 1).

    Returns:
        bool, of the shape and on the device of ``weight``: false for exactly ⌊N · sparsity⌋ of them; of equal
        magnitudes the one with the lower index goes.
    """
    size = weight.detach().abs().flatten()
    count = exact_count(size.numel(), sparsity)
    if count == 0:
        return torch.ones_like(weight, dtype=torch.bool)
    limit = size.kthvalue(count).values
    keep = size > limit
    ties = (size == limit).nonzero().flatten()
    surplus = size.numel() - count - int(keep.sum())
    keep[ties[len(ties) - surplus :]] = True
    return keep.view(weight.shape)
