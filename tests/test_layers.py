"""Multiply-adds of layers, as places on a map: the same as the counter's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from slimnet import channel_groups, count
from slimnet.allocation import LiveFlops, network_layers

EXAMPLE = torch.randn(2, 3, 8, 8)


class Named(nn.Module):
    """A convolution that gets its images by name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(input=images)


NETWORKS = {
    "transposed": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 6, 4, stride=2), nn.Conv2d(6, 2, 1)),
    "by name": Named(),
    "many rows": nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_adds_are_the_counters(name: str) -> None:
    model, flops = NETWORKS[name], count(NETWORKS[name], EXAMPLE).flops
    groups = channel_groups(model, EXAMPLE)
    assert sum(layer.flops({}) for layer in network_layers(model, EXAMPLE, groups)) == flops
    assert LiveFlops(model, groups, EXAMPLE).dense == flops
