"""Pure statistics of timings: seeded, numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000


def median_interval(values: Floats, *, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap percentile interval of the median.

    The k-th smallest of n draws with replacement from n sorted values is ``values[⌊n·U⌋]``, where U is the
    k-th smallest
    of n uniforms: Beta(k, n − k + 1). So a resample's median is drawn directly, exactly as resampling would
        give it,
    without the n draws: 30,000 rounds cost no more than 200.

    Args:
        values: (n,) samples, n ≥ 1.
        seed: of the resampling.
        level: coverage, in (0, 1).

    Returns:
        Lower and upper end.
    """
    ordered = np.sort(values)
    n, rng = len(ordered), np.random.default_rng(seed)
    lower, upper = (n + 1) // 2, n // 2 + 1
    low = rng.beta(lower, n - lower + 1, RESAMPLES)
    high = low if upper == lower else low + (1 - low) * rng.beta(1, n - lower, RESAMPLES)
    picks = [ordered[np.minimum((n * u).astype(np.int64), n - 1)] for u in (low, high)]
    ends = np.quantile((picks[0] + picks[1]) / 2, [(1 - level) / 2, (1 + level) / 2])
    return float(ends[0]), float(ends[1])


def is_bimodal(values: Floats, *, gap: float = 0.05, weight: float = 0.1, explained: float = 0.85) -> bool:
    """Whether the samples fall into two clumps.

    The best split in two (Otsu's) must explain at least ``explained`` of the variance (a normal gives 0.64, a
    uniform 0.75), leave at least ``weight`` of the samples on either side, and lie ``gap`` of the median
    apart. The outer 1 % is ignored.

    Args:
        values: (n,) positive samples. Fewer than 20 are never bimodal.
        gap: least distance of the clumps' means, relative to the median.
        weight: least share of the smaller clump.
        explained: least share of the variance that lies between the clumps.
    """
    if len(values) < 20:
        return False
    low, high = np.quantile(values, [0.01, 0.99])
    ordered = np.sort(values[(values >= low) & (values <= high)])
    n = len(ordered)
    left = np.arange(1, n)
    sums = np.cumsum(ordered)
    below, above = sums[:-1] / left, (sums[-1] - sums[:-1]) / (n - left)
    between = left * (n - left) / n**2 * (above - below) ** 2
    best = int(np.argmax(between))
    share = (best + 1) / n
    variance = float(np.var(ordered))
    return bool(
        variance > 0
        and between[best] >= explained * variance
        and weight <= share <= 1 - weight
        and above[best] - below[best] >= gap * float(np.median(ordered))
    )


def is_settled(times: Floats, *, window: int = 10, tolerance: float = 0.03) -> bool:
    """Whether every variant's last ``window`` rounds are as fast as the ``window`` before them.

    Args:
        times: (rounds, variants).
        window: rounds to compare.
        tolerance: largest relative difference of the medians.
    """
    if len(times) < 2 * window:
        return False
    last, before = (np.median(part, axis=0) for part in (times[-window:], times[-2 * window : -window]))
    return bool(np.all(np.abs(last / before - 1) <= tolerance))
