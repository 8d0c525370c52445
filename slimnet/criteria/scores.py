"""The scores themselves: pure functions of a matrix with one row a filter, and the criteria that they make.

Every function takes a tensor of F rows (whatever follows is flattened) and returns (F,) float64 scores; the
filter with the lowest score is pruned first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from slimnet.errors import ArgumentError

Source = Literal["weights", "norms", "gradients", "statistics"]
_EXACT_DISTANCES = 10**8
"""Up to so many multiplications distances are taken directly, beyond through a matrix product."""


@dataclass(frozen=True)
class Criterion:
    """A score and what it is a score of.

    Attributes:
        score: (F, …) → (F,).
        source: ``"weights"``: rows of the weights that make the channels; ``"gradients"``: these times their
            gradients; ``"norms"``: γ of the norms behind; ``"statistics"``: class means of the feature maps.
    """

    score: Callable[[Tensor], Tensor]
    source: Source


def l1(weight: Tensor) -> Tensor:
    r"""Sum of magnitudes, :math:`\lVert w_f \rVert_1`.

    Args:
        weight: (F, …) one row a filter.

    Returns:
        (F,) float64.

    References:
        Li et al., *Pruning Filters for Efficient ConvNets*, ICLR 2017.
    """
    return _rows(weight).abs().sum(1)


def l2(weight: Tensor) -> Tensor:
    r"""Euclidean norm, :math:`\lVert w_f \rVert_2`.

    Args:
        weight: (F, …) one row a filter.

    Returns:
        (F,) float64.

    References:
        He et al., *Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks*, IJCAI 2018.
    """
    return _rows(weight).square().sum(1).sqrt()


def geometric_median(weight: Tensor) -> Tensor:
    r"""Sum of distances to all filters, :math:`d_f = \sum_g \lVert w_f - w_g \rVert_2`.

    The filter with the least sum is nearest the geometric median of its layer: the others replace it best.

    Args:
        weight: (F, …) one row a filter.

    Returns:
        (F,) float64.

    References:
        He et al., *Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration*,
        CVPR 2019.
    """
    rows = _rows(weight)
    direct = rows.shape[0] ** 2 * rows.shape[1] <= _EXACT_DISTANCES
    mode = "donot_use_mm_for_euclid_dist" if direct else "use_mm_for_euclid_dist"
    return torch.cdist(rows, rows, compute_mode=mode).sum(1)


def class_separability(means: Tensor) -> Tensor:
    r"""How far apart the classes lie along a filter's feature.

    .. math:: s_f = \sum_{i<j} (m_{i,f} - m_{j,f})^2 = C \sum_c m_{c,f}^2 - \Big(\sum_c m_{c,f}\Big)^2

    the trace of an unweighted between-class scatter of a scalar feature; computed as C times the squared
    deviations from the mean over the classes, which is the same and does not cancel.

    Args:
        means: (F, C) class means of each filter's feature, C ≥ 2.

    Returns:
        (F,) float64.

    References:
        Gkalelis & Mezaris, *Fractional Step Discriminant Pruning*, ICMEW 2020.
    """
    rows = _rows(means)
    return rows.shape[1] * (rows - rows.mean(1, keepdim=True)).square().sum(1)


def norm_scale(gamma: Tensor) -> Tensor:
    r"""Magnitude of the norm's scale behind the filter, :math:`|\gamma_f|`.

    Args:
        gamma: (F,) or (F, k) scales.

    Returns:
        (F,) float64.

    References:
        Liu et al., *Learning Efficient Convolutional Networks through Network Slimming*, ICCV 2017.
    """
    return _rows(gamma).abs().sum(1)


def taylor(weight_times_gradient: Tensor) -> Tensor:
    r"""First-order change of the loss without the filter, :math:`\sum |w \cdot \partial L / \partial w|`.

    Args:
        weight_times_gradient: (F, …) products of each weight with its gradient.

    Returns:
        (F,) float64.

    References:
        Molchanov et al., *Importance Estimation for Neural Network Pruning*, CVPR 2019 (the sum of
        magnitudes is used here).
    """
    return _rows(weight_times_gradient).abs().sum(1)


CRITERIA: dict[str, Criterion] = {
    "l1": Criterion(l1, "weights"),
    "l2": Criterion(l2, "weights"),
    "gm": Criterion(geometric_median, "weights"),
    "cs": Criterion(class_separability, "statistics"),
    "norm-scale": Criterion(norm_scale, "norms"),
    "taylor": Criterion(taylor, "gradients"),
}
"""Criteria by name, in the order of `slimnet.names.CRITERIA`."""


def criterion_names() -> tuple[str, ...]:
    """The known criteria."""
    return tuple(CRITERIA)


def get_criterion(name: str) -> Criterion:
    """The criterion of that name.

    Raises:
        ArgumentError: if it is unknown; the message lists the known ones.
    """
    if name not in CRITERIA:
        raise ArgumentError(f"unknown `criterion` {name!r}; known: {', '.join(criterion_names())}.")
    return CRITERIA[name]


def _rows(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float64).reshape(tensor.shape[0], -1)
