"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import nn

from slimnet._torchvision import classifier_names
from slimnet.errors import ArgumentError, ModelError, unknown
from slimnet.models import _classifiers, _factory
from slimnet.models.resnet import CifarResNet
from slimnet.models.trust import is_factory
from slimnet.models.vgg import CifarVGG16, FaceVGG9, FaceVGG13
from slimnet.models.vgg_face import VGGFace, VGGFaceGap
from slimnet.models.weights import load_weights

OWN: dict[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(CifarResNet, depth) for depth in (8, 20, 32, 44, 56, 110)},
    "vgg16_bn_cifar": CifarVGG16,
    "vgg9_face": FaceVGG9,
    "vgg13_face": FaceVGG13,
    "resnet18_face": _classifiers.resnet18_face,
    "vggface": VGGFace,
    "vggface_gap": VGGFaceGap,
}


def model_names() -> tuple[str, ...]:
    """Names that `build_model` knows: first slimnet's own, then torchvision's classifiers."""
    return (*OWN, *(name for name in classifier_names() if name not in OWN))


def build_model(name: str, *, num_classes: int, in_channels: int = 3, weights: str | Path | None = None) -> nn.Module:
    """Build a network.

    Args:
        name: one of `model_names`, or ``package.module:function``, a factory of your own that returns an
            ``nn.Module``: its code is run. Its module may lie in the current directory, under a name that no installed module
            has. It is called with ``num_classes`` and
            ``in_channels``, each only where it takes an argument of that name.
        num_classes: number of outputs.
        in_channels: channels of the input image. Where this is not 3, a torchvision network gets a new first
            convolution.
        weights: a file of initial weights, see `load_weights`; with ``new_head``, so that VGG-Face's weights for 2,622
            people load into a network for seven expressions.

    Returns:
        The network, in training mode, on the CPU. Its weights are drawn from torch's global generator.

    Raises:
        ArgumentError: if a number is below 1.
        ModelError: if the name is unknown, the factory fails, or the weights do not fit.
        FileFormatError: if the file of weights is missing or unreadable.

    Example:
        >>> model = build_model("resnet20", num_classes=10, in_channels=1)
        >>> sum(p.numel() for p in model.parameters())
        269434
    """
    for label, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if value < 1:
            raise ArgumentError(f"`{label}` must be at least 1, got {value}.")
    model = _build(name, num_classes=num_classes, in_channels=in_channels)
    if weights is not None:
        load_weights(model, weights, new_head=True)
    return model


def check_model(name: str) -> None:
    """Refuse a name that `build_model` would not know, without building anything.

    Raises:
        ModelError: if the name is unknown, or there is no such factory.
    """
    if is_factory(name):
        _factory.find(name)
    elif name not in OWN and name not in classifier_names():
        raise _unknown(name)


def _build(name: str, *, num_classes: int, in_channels: int) -> nn.Module:
    if name in OWN:
        return OWN[name](num_classes=num_classes, in_channels=in_channels)
    if is_factory(name):
        return _factory.build(name, num_classes=num_classes, in_channels=in_channels)
    if name in classifier_names():
        return _classifiers.build(name, num_classes=num_classes, in_channels=in_channels)
    raise _unknown(name)


def _unknown(name: str) -> ModelError:
    return ModelError(unknown("Unknown model", name, model_names(), "; or package.module:function for your own"))
