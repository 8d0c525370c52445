"""A network for pictures that are normalised otherwise than those that it learnt from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slimnet.data import MeanStd


class Renormalised(nn.Module):
    """A network whose input is brought to the mean and deviation that it learnt from, before it sees it.

    Args:
        network: takes images (N, C, H, W).
        learnt: the mean and deviation that it was trained with, a value a channel each.
        given: those of what comes in.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, learnt: MeanStd, given: MeanStd) -> None:
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


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
