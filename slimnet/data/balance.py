"""How much each class counts."""

from __future__ import annotations

import torch
from torch import Tensor

from slimnet.errors import ArgumentError


def class_weights(labels: Tensor, *, num_classes: int | None = None, power: float = 1.0) -> Tensor:
    r"""Weights for a loss by which rare classes count as much as frequent ones.

    .. math:: w_c \propto N_c^{-p}, \quad \sum_c N_c w_c = N

    Args:
        labels: (N,) int64, of the training split.
        num_classes: number of classes; None: as many as the labels tell of.
        power: p: 1 makes all classes count the same, 0 all images.

    Returns:
        (num_classes,) float32; the mean over the images is 1.

    Raises:
        ArgumentError: if there are no labels, a class has none, or ``power`` is not in [0, 1].

    Example:
        >>> class_weights(torch.tensor([0, 0, 0, 1])).tolist()
        [0.6666666865348816, 2.0]
    """
    if not 0 <= power <= 1:
        raise ArgumentError(f"`power` must be in [0, 1], got {power}.")
    counts = torch.bincount(labels.cpu(), minlength=num_classes or 0).double()
    empty = (counts == 0).nonzero().flatten().tolist()
    if empty or not len(counts):
        raise ArgumentError(f"`labels` must hold every class, but there is no {empty[0] if empty else 0}.")
    weights = counts**-power
    return (weights * (counts.sum() / (counts * weights).sum())).float()
