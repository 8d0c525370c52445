"""VGG-Face: VGG-16 with biases and without norms, for faces of 224×224 pixels.

References:
    Parkhi, Vedaldi & Zisserman, *Deep Face Recognition*, BMVC 2015.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from slimnet.errors import ArgumentError

IDENTITIES = 2622
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
UNITS = 4096
CONVS = tuple(f"conv_{stage}_{i}" for stage, (_, count) in enumerate(STAGES, 1) for i in range(1, count + 1))


class _Trunk(nn.Module):
    """The thirteen convolutions, ``conv_1_1`` … ``conv_5_3``: (N, in_channels, H, W) → (N, 512, H / 32, W / 32)."""

    layout = tuple(f"{layer}.{entry}" for layer in (*CONVS, "fc6", "fc7", "fc8") for entry in ("weight", "bias"))
    """Names of a converted VGG-Face in the order of its layers: files that name them otherwise load by order and shape."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        width = in_channels
        for stage, (filters, count) in enumerate(STAGES, 1):
            for i in range(1, count + 1):
                conv = nn.Conv2d(width, filters, 3, padding=1)
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # there is one
                setattr(self, f"conv_{stage}_{i}", conv)
                width = filters

    def trunk(self, x: Tensor) -> Tensor:
        """The last feature maps, pooled."""
        for stage, (_, count) in enumerate(STAGES, 1):
            for i in range(1, count + 1):
                x = F.relu(getattr(self, f"conv_{stage}_{i}")(x))
            x = F.max_pool2d(x, 2)
        return x


class VGGFace(_Trunk):
    """VGG-Face exactly: 13 convolutions, ``fc6``, ``fc7``, ``fc8``; 145 million parameters with 2,622 outputs.

    With another number of outputs ``fc8`` is a new head: weights from a normal distribution of deviation 0.1, no bias. Weights
    of 2,622 outputs then load into everything else.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input image.
        image_size: side of the input, a multiple of 32; ``fc6`` reads (image_size / 32)² columns a channel.
        dropout: share of the units of ``fc6`` and ``fc7`` left out in training.

    Raises:
        ArgumentError: if ``image_size`` is no multiple of 32.
    """

    new_head = ("fc8",)

    def __init__(
        self, num_classes: int = IDENTITIES, *, in_channels: int = 3, image_size: int = 224, dropout: float = 0.5
    ) -> None:
        if image_size < 32 or image_size % 32:
            raise ArgumentError(f"`image_size` must be a multiple of 32, got {image_size}.")
        super().__init__(in_channels)
        self.fc6 = nn.Linear(STAGES[-1][0] * (image_size // 32) ** 2, UNITS)
        self.fc7 = nn.Linear(UNITS, UNITS)
        self.fc8 = _head(UNITS, num_classes)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, image_size, image_size) to logits (N, num_classes)."""
        x = self.trunk(x).flatten(1)
        x = self.dropout(F.relu(self.fc6(x)))
        x = self.dropout(F.relu(self.fc7(x)))
        logits: Tensor = self.fc8(x)
        return logits


class VGGFaceGap(_Trunk):
    """VGG-Face without ``fc6`` and ``fc7``: ``fc8`` reads the mean of each feature map; 14.7 million parameters, any resolution.

    Args:
        num_classes: number of outputs.
        in_channels: channels of the input image.
        dropout: share of the features left out in training.
    """

    new_head = ("fc6", "fc7", "fc8")

    def __init__(self, num_classes: int = IDENTITIES, *, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__(in_channels)
        self.fc8 = _head(STAGES[-1][0], num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, in_channels, H, W), H and W at least 32, to logits (N, num_classes)."""
        features = F.adaptive_avg_pool2d(self.trunk(x), 1).flatten(1)
        logits: Tensor = self.fc8(self.dropout(features))
        return logits


def _head(features: int, num_classes: int) -> nn.Linear:
    head = nn.Linear(features, num_classes)
    if num_classes != IDENTITIES:
        nn.init.normal_(head.weight, std=0.1)
        nn.init.zeros_(head.bias)
    return head
