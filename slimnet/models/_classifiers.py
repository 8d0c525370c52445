"""torchvision's classifiers, for pictures of any number of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from slimnet._torchvision import classifier
from slimnet.errors import ModelError, whole_text
from slimnet.models._stem import replace_stem

# Auxiliary heads serve only a training recipe of their own; both warn unless told how to initialise.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def build(name: str, arguments: Mapping[str, Any], *, num_classes: int, in_channels: int) -> nn.Module:
    """Build a torchvision classifier with random weights.

    Args:
        name: of the classifier.
        arguments: what else its function is given.
        num_classes, in_channels: outputs, and channels of the picture.

    Raises:
        ModelError: if it does not take an argument, or cannot be made to take ``in_channels``.
    """
    try:
        model = classifier(name, num_classes=num_classes, **{**_OPTIONS.get(name, {}), **arguments})
    except Exception as error:
        raise ModelError(f"torchvision cannot build {name}: {type(error).__name__}: {whole_text(error)}") from error
    if in_channels != 3:
        replace_stem(model, name, in_channels)
    return model


def resnet18_face(*, num_classes: int, in_channels: int) -> nn.Module:
    """ResNet-18 for small images such as faces of 48×48 pixels: a 3×3 stem of stride 1, and no max pooling."""
    model = build("resnet18", {}, num_classes=num_classes, in_channels=3)
    stem = nn.Conv2d(in_channels, model.bn1.num_features, 3, padding=1, bias=False)  # type: ignore[arg-type, union-attr]
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.conv1, model.maxpool = stem, nn.Identity()
    return model
