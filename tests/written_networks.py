"""Networks whose forward pass is written in the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from slimnet.surgery import SlimResult
from test_surgery import roughen

Forward = Callable[..., Any]


class Written(nn.Module):
    """Convolutions a, b, c of eight channels and a head, and a forward pass as given."""

    def __init__(self, forward: Forward, **modules: nn.Module) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b, self.c = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 3, padding=1)
        for name, module in modules.items():
            setattr(self, name, module)
        self.scale, self.places = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(1, 8, 12, 12))
        self.register_buffer("blur", torch.rand(8, 1, 3, 3))
        self.written = forward

    def forward(self, x: Tensor, *more: Tensor) -> Any:
        return self.written(self, x, *more)


def written(forward: Forward, zero: str = "a", **modules: nn.Module) -> Written:
    """The network in eval mode with live norms and biases; five of eight filters of the layers in ``zero`` are zero."""
    torch.manual_seed(0)
    model = Written(forward, **modules)
    roughen(model)
    for name in zero.split():
        model.get_parameter(f"{name}.weight").data[:5] = 0
    return model


def x(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 12, 12)), generator=torch.Generator().manual_seed(0))


def reasons(result: SlimResult) -> str:
    return "; ".join(reason for group in result.plan.groups for reason in group.reasons)


def carried(m: Any, x: Tensor) -> Any:
    return m.head(torch.sigmoid(m.b(torch.sigmoid(m.a(x)))))
