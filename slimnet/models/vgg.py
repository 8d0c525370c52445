"""VGG networks with batch norms for small images: VGG-16 for CIFAR, and two of VGG-13's kind for faces of 48×48 pixels.

References:
    Simonyan & Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, ICLR 2015.
    Barsoum, Zhang, Canton Ferrer & Zhang, *Training deep networks for facial expression recognition with crowd-sourced label
    distribution*, ICMI 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

VGG9 = ((32, 2), (64, 2), (128, 2), (256, 2))
VGG13 = ((64, 2), (128, 2), (256, 2), (512, 2), (512, 2))
VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class _SmallVGG(nn.Module):
    """Stages of 3×3 convolutions with norms, max pooling between them, and the mean of each feature map."""

    def __init__(self, stages: Sequence[tuple[int, int]], classifier: nn.Module, *, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = in_channels
        for stage, (filters, count) in enumerate(stages):
            layers += [nn.MaxPool2d(2)] if stage else []
            for _ in range(count):
                layers += [nn.Conv2d(width, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]
                width = filters
        self.features = nn.Sequential(*layers)
        self.classifier = classifier
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W), H and W at least 16, to logits (N, num_classes)."""
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))
        return logits


class CifarVGG16(_SmallVGG):
    """VGG-16-BN as is customary on CIFAR: 512 hidden units with a norm; 14.99 M parameters, 313.5 M multiply-adds at 32×32.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input image.
    """

    def __init__(self, *, num_classes: int, in_channels: int = 3) -> None:
        width = VGG16[-1][0]
        hidden = (nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True))
        super().__init__(VGG16, nn.Sequential(*hidden, nn.Linear(width, num_classes)), in_channels=in_channels)


class FaceVGG13(_SmallVGG):
    """Ten convolutions with norms, dropout, one linear layer: 9.4 M parameters, 513 M multiply-adds at 48×48 grey.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input image.
        dropout: share of the features left out in training.
    """

    def __init__(self, *, num_classes: int, in_channels: int = 3, dropout: float = 0.5) -> None:
        classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(VGG13[-1][0], num_classes))
        super().__init__(VGG13, classifier, in_channels=in_channels)


class FaceVGG9(_SmallVGG):
    """The compact one: eight convolutions of half the width, dropout, one linear layer.

    1.17 M parameters, 117 M multiply-adds at 48×48 grey: trained on a processor in an hour.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input image.
        dropout: share of the features left out in training.
    """

    def __init__(self, *, num_classes: int, in_channels: int = 3, dropout: float = 0.3) -> None:
        classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(VGG9[-1][0], num_classes))
        super().__init__(VGG9, classifier, in_channels=in_channels)
