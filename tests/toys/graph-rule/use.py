"""A network with the operator is analysed and cut."""

import torch
import toy_use
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.b(self.a(x).relu().cumsum(3)).mean((2, 3)))


model, x = Net().eval(), torch.randn(2, 1, 12, 12)
toy_use.library.prune(model, x, criterion="l2", rate=0.5)
result = toy_use.library.slim(model, x)
assert (result.model.a.out_channels, result.model.b.in_channels) == (4, 4)
assert result.report.verification.worst <= 1e-12
