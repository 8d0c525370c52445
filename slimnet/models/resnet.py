"""Residual networks for small images: for CIFAR with shortcuts without parameters (option A), for faces with convolutions (B).

References:
    He, Zhang, Ren & Sun, *Deep Residual Learning for Image Recognition*, CVPR 2016, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimnet.errors import ArgumentError, SurgeryError

WIDTHS = (16, 32, 64)
FACE_STEM, FACE_STAGES = 32, ((64, 2), (128, 2), (256, 1))


class PadShortcut(nn.Module):
    """Option A: keep every ``stride``-th pixel and pad with channels of zeros; no parameters.

    Input channel ``c`` comes out as channel ``before + c``. Nothing here knows how many channels come in, so
    that a surgeon who removed channels on either side only has to set ``before`` and ``after``.

    Attributes:
        stride: step of the subsampling, in pixels, in both directions.
        before: channels of zeros put in front.
        after: channels of zeros put behind.
    """

    def __init__(self, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = before
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, before + C + after, ⌈H / stride⌉, ⌈W / stride⌉)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def keep_channels(self, inputs: Tensor, outputs: Tensor) -> None:
        """Adapt the padding, in place, to a network from which channels were removed.

        Args:
            inputs: (C,) bool, the channels of the input that remain.
            outputs: (before + C + after,) bool, the channels of the output that remain.

        Raises:
            SurgeryError: if an input channel remains and its place in the output does not, or vice versa.
        """
        middle = outputs[self.before : len(outputs) - self.after]
        if not torch.equal(inputs, middle):
            raise SurgeryError(f"{self!r} cannot keep an input channel without its output channel.")
        first, last = outputs[: self.before], outputs[len(outputs) - self.after :]
        self.before, self.after = int(first.sum()), int(last.sum())

    def extra_repr(self) -> str:
        """Show the three numbers when the module is printed."""
        return f"stride={self.stride}, before={self.before}, after={self.after}"


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with norms, and a shortcut around them.

    Args:
        in_width: channels of the input.
        width: channels of the output.
        stride: of the first convolution.
        shortcut: where shapes change, ``"A"`` pads with zeros, ``"B"`` is a 1×1 convolution with a norm.
    """

    def __init__(self, in_width: int, width: int, stride: int, shortcut: Literal["A", "B"] = "A") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(in_width, width, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_width, H, W) to (N, width, ⌈H / stride⌉, ⌈W / stride⌉)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.shortcut(x)
        return F.relu(out)


class CifarResNet(nn.Module):
    """The ResNet for CIFAR with 6n + 2 layers: stem, three stages of n blocks, average pooling, linear layer.

    Works on images of any resolution. The names in the state dict are the customary ones (``conv1``, ``bn1``,
    ``layer1.0.conv1``, …, ``linear``).

    Args:
        depth: number of layers with weights: 6n + 2 (20, 32, 44, 56, 110 are in the paper).
        num_classes: number of outputs.
        in_channels: channels of the input image.

    Raises:
        ArgumentError: if ``depth`` is not 6n + 2 with n ≥ 1.
    """

    def __init__(self, depth: int, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ArgumentError(f"`depth` must be 6n + 2 with n at least 1 (8, 14, 20, 26, …), got {depth}.")
        self.conv1 = nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks, stride=1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks, stride=2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks, stride=2)
        self.linear = nn.Linear(WIDTHS[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))
        return logits


class FaceNetwork(nn.Module):
    """A stem, three stages, mean, dropout, linear layer.

    Args:
        stem: the first convolution, without bias.
        layers: the three stages.
        width: channels of the last one.
        num_classes: number of outputs.
        dropout: share of the features left out in training.
    """

    def __init__(self, stem: nn.Conv2d, layers: Sequence[nn.Sequential], width: int, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = stem
        self.bn1 = nn.BatchNorm2d(stem.out_channels)
        self.layer1, self.layer2, self.layer3 = layers
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W) to logits (N, num_classes)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(out, 1).flatten(1))
        return logits


class FaceResNet(FaceNetwork):
    """Twelve layers for faces of 48×48: a stem of stride 2, stages of 2, 2 and 1 blocks, mean, dropout, linear layer.

    1.58 M parameters, 184 M multiply-adds at 48×48 grey, in shapes that processors run well: the largest maps are 24×24.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input image.
        dropout: share of the features left out in training.
    """

    def __init__(self, *, num_classes: int, in_channels: int = 3, dropout: float = 0.3) -> None:
        stem = nn.Conv2d(in_channels, FACE_STEM, 3, stride=2, padding=1, bias=False)
        width, layers = FACE_STEM, []
        for stage, (wider, count) in enumerate(FACE_STAGES):
            layers.append(_stage(width, wider, count, stride=2 if stage else 1, shortcut="B"))
            width = wider
        super().__init__(stem, layers, width, num_classes=num_classes, dropout=dropout)


def _stage(in_width: int, width: int, blocks: int, *, stride: int, shortcut: Literal["A", "B"] = "A") -> nn.Sequential:
    first = BasicBlock(in_width, width, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1)))


def _shortcut(in_width: int, width: int, stride: int, kind: Literal["A", "B"]) -> nn.Module:
    if stride == 1 and in_width == width:
        return nn.Identity()
    if kind == "B":
        return nn.Sequential(nn.Conv2d(in_width, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))
    before = (width - in_width) // 2
    return PadShortcut(stride, before, width - in_width - before)
