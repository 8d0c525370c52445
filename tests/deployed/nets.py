"""Small networks for conversion: what CNNs are made of, one each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

import slimnet

SHAPE = (3, 12, 12)


class Net(nn.Module):
    """A body, and a linear head on the mean of its maps."""

    def __init__(self, body: Callable[[Tensor], Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.body = nn.ModuleList(layers), body
        with torch.no_grad():
            channels = self._maps(torch.zeros(1, *SHAPE)).shape[1]
        self.head = nn.Linear(channels, 4)

    def _maps(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self._maps(x).mean((2, 3)))


class Excited(nn.Module):
    """Squeeze and excitation with hard sigmoids."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down, self.up = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8 * 10 * 10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardswish(self.first(x))
        scale = functional.hardsigmoid(self.up(functional.relu(self.down(functional.adaptive_avg_pool2d(x, 1)))))
        return self.head((x * scale).flatten(1))


def _same(x: Tensor) -> Tensor:
    return x


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "strided": lambda: Net(torch.relu, nn.Conv2d(3, 8, 3, stride=2, padding=1)),
    "five by five": lambda: Net(_same, nn.Conv2d(3, 8, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(8), nn.ReLU6()),
    "depthwise": lambda: Net(torch.relu, nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6()),
    "multiplied": lambda: Net(torch.relu, nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4)),
    "grouped": lambda: Net(torch.relu, nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=2)),
    "dilated": lambda: Net(torch.relu, nn.Conv2d(3, 8, 3, padding=2, dilation=2)),
    "pooled": lambda: Net(_same, nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)),
    "stem": lambda: Net(_same, nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    "residual": lambda: Net(lambda x: torch.relu(x + x.tanh()), nn.Conv2d(3, 8, 3, padding=1), nn.SiLU()),
    "branches": lambda: Net(lambda x: torch.cat([x, torch.sigmoid(x)], 1), nn.Conv2d(3, 6, 3), nn.LeakyReLU(0.1)),
    "padded": lambda: Net(lambda x: functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2)), nn.Conv2d(3, 5, 3)),
    "clipped": lambda: Net(lambda x: x.clamp(-0.5, 0.75), nn.Conv2d(3, 6, 3)),
    "excited": Excited,
}


def made(name: str) -> nn.Module:
    """The same numbers every time."""
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


def exported(model: nn.Module, path: Path, shape: tuple[int, ...] = SHAPE) -> bytes:
    """The network as ONNX."""
    slimnet.export_onnx(model, torch.zeros(1, *shape) + 0.5, path)
    return path.read_bytes()


def images(count: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """The same every time."""
    return np.random.default_rng(count).standard_normal((count, *shape), dtype=np.float32)


def answers(data: bytes, x: np.ndarray) -> np.ndarray:
    """ONNX Runtime's."""
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]


def error(right: np.ndarray, found: np.ndarray) -> float:
    """The largest difference, relative to the largest logit; infinite where the shapes differ."""
    return float(np.abs(found - right).max() / np.abs(right).max()) if found.shape == right.shape else float("inf")
