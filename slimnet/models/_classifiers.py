"""torchvision's classifiers, for pictures of any number of channels."""

from __future__ import annotations

from typing import Any

from torch import nn

from slimnet._torchvision import classifier
from slimnet.errors import ModelError

# Auxiliary heads serve only a training recipe of their own; both warn unless told how to initialise.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def build(name: str, *, num_classes: int, in_channels: int) -> nn.Module:
    """Build a torchvision classifier with random weights.

    Raises:
        ModelError: if it cannot be made to take ``in_channels``.
    """
    model = classifier(name, num_classes=num_classes, **_OPTIONS.get(name, {}))
    if in_channels != 3:
        _replace_stem(model, name, in_channels)
    return model


def resnet18_face(*, num_classes: int, in_channels: int) -> nn.Module:
    """ResNet-18 for small images such as faces of 48×48 pixels: a 3×3 stem of stride 1, and no max pooling."""
    model = build("resnet18", num_classes=num_classes, in_channels=3)
    stem = nn.Conv2d(in_channels, model.bn1.num_features, 3, padding=1, bias=False)  # type: ignore[arg-type, union-attr]
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.conv1, model.maxpool = stem, nn.Identity()
    return model


def _replace_stem(model: nn.Module, name: str, in_channels: int) -> None:
    """Put, in place, a first convolution that reads ``in_channels``, initialised as the old one's kind is."""
    found = next((item for item in model.named_modules() if isinstance(item[1], nn.Conv2d)), None)
    if found is None or found[1].in_channels != 3 or found[1].groups != 1:
        raise ModelError(f"{name} has no first convolution that reads 3 channels: it cannot take {in_channels}.")
    path, old = found
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]  # torch annotates the attribute as tuple[int, ...]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
