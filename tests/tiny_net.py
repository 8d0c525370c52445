"""A tiny residual network and its channel groups, written out by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slimnet.graph.groups import ChannelGroup, Rows


class TinyNet(nn.Module):
    """stem → (conv1 → conv2) + shortcut → pool → head; every convolution has a norm behind it."""

    def __init__(self, width: int = 4, inner: int = 6, classes: int = 3, bias: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=bias)
        self.bn = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, inner, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x)).relu()
        x = (self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + x).relu()
        return self.head(x.mean((2, 3)))


def tiny_net(width: int = 4, inner: int = 6, classes: int = 3, bias: bool = False, seed: int = 0) -> TinyNet:
    """A TinyNet whose norms have no special values left."""
    torch.manual_seed(seed)
    model = TinyNet(width, inner, classes, bias)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def tiny_groups(model: TinyNet) -> tuple[ChannelGroup, ...]:
    """The stream (stem, conv2) and the inner channels (conv1)."""
    return (
        _group(model, "stem", ("stem", "conv2"), ("bn", "bn2"), ("conv1", "head")),
        _group(model, "conv1", ("conv1",), ("bn1",), ("conv2",)),
    )


def part_groups(model: TinyNet, cut: int) -> tuple[ChannelGroup, ...]:
    """conv1's channels as two groups that share its tensors: those below ``cut``, and the rest."""
    size = model.conv1.out_channels
    return (
        _group(model, "low", ("conv1",), ("bn1",), ("conv2",), channels=range(cut)),
        _group(model, "high", ("conv1",), ("bn1",), ("conv2",), channels=range(cut, size)),
    )


def _group(
    model: TinyNet,
    name: str,
    makers: tuple[str, ...],
    norms: tuple[str, ...],
    readers: tuple[str, ...],
    *,
    channels: range | None = None,
) -> ChannelGroup:
    channels = channels or range(model.get_submodule(makers[0]).weight.shape[0])
    index = torch.tensor(list(channels))[:, None]
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    entries = ("weight", "bias", "running_mean", "running_var")

    def rows(modules: tuple[str, ...]) -> tuple[Rows, ...]:
        return tuple(Rows(f"{m}.{entry}", 0, index) for m in modules for entry in entries if f"{m}.{entry}" in tensors)

    inputs = tuple(Rows(f"{m}.weight", 1, index) for m in readers)
    return ChannelGroup(name, len(channels), filters=rows(makers), norms=rows(norms), inputs=inputs)
