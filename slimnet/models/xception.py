"""A small network of separable convolutions for faces.

References:
    Chollet, *Xception: Deep Learning with Depthwise Separable Convolutions*, CVPR 2017.
    Arriaga, Valdenegro-Toro & Plöger, *Real-time Convolutional Neural Networks for Emotion and Gender Classification*, 2017:
    "mini-Xception", of which this one has the idea, not the widths.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from slimnet.models.resnet import FaceNetwork

STEM, STAGES = 24, ((48, 3), (80, 2), (128, 1))


def _separable(in_width: int, width: int, stride: int) -> nn.Sequential:
    """A depthwise 3×3 and a 1×1 convolution, a norm behind each."""
    return nn.Sequential(
        nn.Conv2d(in_width, in_width, 3, stride=stride, padding=1, groups=in_width, bias=False),
        nn.BatchNorm2d(in_width),
        nn.Conv2d(in_width, width, 1, bias=False),
        nn.BatchNorm2d(width),
    )


class SeparableBlock(nn.Module):
    """Two separable convolutions, and a shortcut around them: a 1×1 convolution with a norm where shapes change.

    Args:
        in_width: channels of the input.
        width: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _separable(in_width, width, stride)
        self.conv2 = _separable(width, width, 1)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_width == width
            else nn.Sequential(nn.Conv2d(in_width, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_width, H, W) to (N, width, ⌈H / stride⌉, ⌈W / stride⌉)."""
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class FaceXception(FaceNetwork):
    """A stem at full resolution and six separable blocks for faces of 48×48: 90 thousand parameters, for very small files.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input image.
        dropout: share of the features left out in training.
    """

    def __init__(self, *, num_classes: int, in_channels: int = 3, dropout: float = 0.0) -> None:
        stem = nn.Conv2d(in_channels, STEM, 3, padding=1, bias=False)
        width, layers = STEM, []
        for wider, count in STAGES:
            layers.append(nn.Sequential(*(SeparableBlock(wider if i else width, wider, 1 if i else 2) for i in range(count))))
            width = wider
        super().__init__(stem, layers, width, num_classes=num_classes, dropout=dropout)
