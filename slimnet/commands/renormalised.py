"""A network for pictures that are normalised otherwise than those that it learnt from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Numbers = tuple[Sequence[float], Sequence[float]]
SAME_PICTURES = 0.05
"""Part of a deviation by which a mean may be another, and of itself by which a deviation may: another split does no more."""


class Renormalised(nn.Module):
    """A network whose input is brought to the mean and deviation that it learnt from, before it sees it.

    Args:
        network: takes images (N, C, H, W).
        learnt: the mean and deviation that it was trained with, a value a channel each.
        given: those of what comes in.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, learnt: Numbers, given: Numbers) -> None:
        super().__init__()
        (its_mean, its_std), (mean, std) = learnt, given
        self.network = network
        self.register_buffer("scale", _column([ours / its for its, ours in zip(its_std, std, strict=True)]))
        shifts = zip(its_mean, its_std, mean, strict=True)
        self.register_buffer("shift", _column([(ours - its) / deviation for its, deviation, ours in shifts]))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → what the network gives."""
        answers: Tensor = self.network(images * self.scale + self.shift)
        return answers


def are_same(learnt: Numbers, given: Numbers) -> bool:
    """Whether two means and deviations are those of the same pictures, as far as another split goes."""
    (its_mean, its_std), (mean, std) = learnt, given
    far = [abs(ours - its) / deviation for its, ours, deviation in zip(its_mean, mean, std, strict=True)]
    return max([*far, *(abs(its / ours - 1) for its, ours in zip(its_std, std, strict=True))]) <= SAME_PICTURES


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
