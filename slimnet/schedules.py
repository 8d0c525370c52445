"""Schedules: an epoch in, a pruning rate or a filter scale out.

A schedule is a function ``epoch → float``; the functions here return one. They know nothing of models or
masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from slimnet.errors import ArgumentError

Schedule = Callable[[float], float]
"""Epoch (0 = first) → value of the scheduled quantity."""

MIN_TAU = 4 / 3
"""Below it the asymptotic curve cannot pass through its three anchors."""

_BISECTIONS = 200


def constant(value: float) -> Schedule:
    """The same ``value`` at every epoch."""
    return lambda epoch: value


def step(final: float, last_epoch: int) -> Schedule:
    r"""Nothing, and then all at once.

    .. math:: \theta(e) = \theta \text{ if } e \ge e_\text{last} \text{ else } 0

    Args:
        final: the value θ at the end, in [0, 1).
        last_epoch: the epoch from which on the value is ``final``.

    Raises:
        ArgumentError: if ``final`` is out of its range.

    Example:
        >>> [step(0.4, last_epoch=2)(epoch) for epoch in range(4)]
        [0.0, 0.0, 0.4, 0.4]
    """
    _check_final(final)
    return lambda epoch: final if epoch >= last_epoch else 0.0


def linear(final: float, last_epoch: int) -> Schedule:
    r"""Rise evenly from 0 to ``final``.

    .. math:: \theta(e) = \theta \cdot \min(e / e_\text{last},\ 1)

    Args:
        final: the value θ at the end, in [0, 1).
        last_epoch: the epoch from which on the value is ``final``, at least 1.

    Raises:
        ArgumentError: if an argument is out of its range.
    """
    _check_final(final)
    _check_last_epoch(last_epoch)
    return lambda epoch: final if epoch >= last_epoch else final * max(epoch, 0.0) / last_epoch


def asymptotic(final: float, last_epoch: int, tau: float = 10.0) -> Schedule:
    r"""Rise fast, then flatten out at ``final``.

    The curve passes through θ(0) = 0, θ(e_last/τ) = ¾θ and θ(e_last) = θ:

    .. math::
        \theta(e) = \tfrac34\theta\,\frac{1-e^{-be}}{1-\xi}, \quad
        \tfrac34\xi^\tau - \xi + \tfrac14 = 0,\ 0 < \xi < 1, \quad
        b = -\ln\xi \cdot \tau / e_\text{last}

    Args:
        final: share of filters pruned at the end (θ), in [0, 1).
        last_epoch: the epoch of the last anchor (T − 1 for T epochs), at least 1. Later epochs give
            ``final``.
        tau: where ¾ of ``final`` is reached: after 1/τ of the epochs. More than 4/3; towards 4/3 the curve
            is linear.

    Raises:
        ArgumentError: if an argument is out of its range.

    Example:
        >>> rate = asymptotic(0.5, last_epoch=199)
        >>> round(rate(10), 6)
        0.250869

    References:
        Gkalelis & Mezaris, *Fractional Step Discriminant Pruning*, ICMEW 2020; with τ = 8 the schedule of
        He et al., *Asymptotic Soft Filter Pruning*, 2019.
    """
    _check_final(final)
    _check_last_epoch(last_epoch)
    log_xi = math.log(_solve_xi(_check_tau(tau)))
    b = -log_xi * tau / last_epoch
    height = 0.75 * final / -math.expm1(log_xi)

    def rate(epoch: float) -> float:
        if epoch >= last_epoch:
            return final
        return min(final, height * -math.expm1(-b * max(epoch, 0.0)))

    return rate


def fading(rate: Schedule, final: float, attenuation: float = 1.0) -> Schedule:
    r"""The scale of a selected filter: it falls to 0 as the pruning rate reaches its end.

    .. math:: \zeta(e) = a\,(1 - \theta(e)/\theta)

    Args:
        rate: the pruning rate θ(e).
        final: its last value θ, in (0, 1); ζ is exactly 0 where θ(e) = θ.
        attenuation: the factor a, in (0, 1].

    Raises:
        ArgumentError: if an argument is out of its range.

    References:
        Gkalelis & Mezaris, *Fractional Step Discriminant Pruning*, ICMEW 2020.
    """
    _check_final(final)
    if final == 0:
        raise ArgumentError("`final` must be more than 0 for a scale that fades with it, got 0.")
    _check_attenuation(attenuation)
    return lambda epoch: attenuation * min(1.0, max(0.0, 1 - rate(epoch) / final))


def _check_tau(tau: float) -> float:
    if not (math.isfinite(tau) and tau > MIN_TAU):
        raise ArgumentError(f"`tau` must be above 4/3, got {tau}.")
    return tau


def _check_attenuation(attenuation: float) -> None:
    if not 0 < attenuation <= 1:
        raise ArgumentError(f"`attenuation` must be in (0, 1], got {attenuation}.")


def _check_final(final: float) -> None:
    if not 0 <= final < 1:
        raise ArgumentError(f"`final` must be in [0, 1), got {final}.")


def _check_last_epoch(last_epoch: int) -> None:
    if last_epoch < 1:
        raise ArgumentError(f"`last_epoch` must be at least 1, got {last_epoch}.")


def _solve_xi(tau: float) -> float:
    """The root of ¾ξ^τ − ξ + ¼ in (0, 1), by bisection between 0 and the minimum of that function."""
    low, high = 0.0, math.pow(MIN_TAU / tau, 1 / (tau - 1))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if 0.75 * math.pow(middle, tau) - middle + 0.25 > 0:
            low = middle
        else:
            high = middle
    return min(high, 1 - 1e-9)
