"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slimnet._torchvision import classifier_names
from slimnet.errors import ArgumentError, ModelError, unknown
from slimnet.models import _classifiers, _factory, _timm
from slimnet.models._shapes import find_heads
from slimnet.models._timm import Defaults
from slimnet.models.resnet import CifarResNet, FaceResNet
from slimnet.models.trust import HUB, TIMM, TORCHVISION, check_arguments, is_factory, source_of
from slimnet.models.vgg import CifarVGG16, FaceVGG9, FaceVGG13
from slimnet.models.vgg_face import VGGFace, VGGFaceGap
from slimnet.models.weights import load_weights
from slimnet.models.xception import FaceXception

OWN: dict[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(CifarResNet, depth) for depth in (8, 20, 32, 44, 56, 110)},
    "vgg16_bn_cifar": CifarVGG16,
    "vgg9_face": FaceVGG9,
    "vgg13_face": FaceVGG13,
    "xception_face": FaceXception,
    "resnet12_face": FaceResNet,
    "resnet18_face": _classifiers.resnet18_face,
    "vggface": VGGFace,
    "vggface_gap": VGGFaceGap,
}
OTHERS = "timm:NAME, torchvision:NAME, hf-hub:NAME; or package.module:function, FILE.py:function for your own"
MOST_PARAMETERS = 1 << 30
_GIVEN = ("num_classes", "in_channels", "in_chans")


def model_names() -> tuple[str, ...]:
    """Names that `build_model` knows without a source: first slimnet's own, then torchvision's classifiers."""
    return (*OWN, *(name for name in classifier_names() if name not in OWN))


def build_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    model_args: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
) -> nn.Module:
    """Build a network.

    Args:
        name: one of `model_names`; ``timm:NAME`` or ``torchvision:NAME``, a network of these libraries with random weights;
            ``hf-hub:NAME``, the network of timm's that a repository of the Hugging Face hub describes, or a folder in the hub's
            form; or ``package.module:function`` or ``FILE.py:function``, a factory of your own that returns an ``nn.Module``: its
            code is run. Its module may lie in the current directory, under a name that no installed module has. It is called
            with ``num_classes`` and ``in_channels`` (or ``in_chans``), each only where it takes an argument of that name.
        num_classes: number of outputs; None: as many labels as timm says that the network has.
        in_channels: channels of the input image. Where this is not 3, torchvision's networks, and those of factories that take no
            such argument, get a new first convolution.
        model_args: further arguments for the factory, or for the library's function.
        weights: a file of initial weights, see `load_weights`; where they are of another number of classes, the head is a new
            one.

    Returns:
        The network, in training mode, on the CPU. Its weights are drawn from torch's global generator.

    Raises:
        ArgumentError: if a number is below 1, or ``model_args`` has what is given by ``num_classes`` and ``in_channels``.
        ModelError: if the name is unknown, the factory fails, the library is not installed, an argument is not taken or would
            make a library read a file or the network, or the weights do not fit.
        FileFormatError: if the file of weights is missing or unreadable.

    Example:
        >>> model = build_model("resnet20", num_classes=10, in_channels=1)
        >>> sum(p.numel() for p in model.parameters())
        269434
    """
    name, arguments = resolved(name, model_args)
    if num_classes is None:
        known = defaults_of(name, arguments)
        if known is None:
            raise ArgumentError(f"`num_classes` is missing: nobody says how many labels {name} has.")
        num_classes = known.num_classes
    for label, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if value < 1:
            raise ArgumentError(f"`{label}` must be at least 1, got {value}.")
    for key in _GIVEN:
        if key in arguments:
            raise ArgumentError(f"`model_args` has `{key}`, which is given by `num_classes` and `in_channels`: leave it out.")
    model = _build(name, arguments, num_classes=num_classes, in_channels=in_channels)
    if weights is not None:
        load_weights(model, weights, new_head=lambda: heads_of(name, arguments, num_classes=num_classes, in_channels=in_channels))
    return model


def heads_of(name: str, model_args: Mapping[str, Any], *, num_classes: int, in_channels: int) -> tuple[str, ...]:
    """Names of the modules of a network whose shapes go with its number of classes."""

    def build(classes: int, channels: int) -> nn.Module:
        return build_model(name, num_classes=classes, in_channels=channels, model_args=model_args)

    return find_heads(build, num_classes, in_channels)


def resolved(name: str, model_args: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """The name and the arguments by which a network can be built again anywhere: ``hf-hub:NAME`` becomes ``timm:NAME``.

    Args:
        name: of a network, as for `build_model`.
        model_args: arguments for it: they go before those that the hub says.

    Raises:
        ModelError: if timm is not installed, or the hub's name is of no network of timm's.
    """
    source, rest = source_of(name)
    if source != HUB:
        return name, dict(model_args or {})
    found, arguments = _timm.of_hub(rest)
    return f"{TIMM}:{found}", {**arguments, **(model_args or {})}


def defaults_of(name: str, model_args: Mapping[str, Any] | None = None) -> Defaults | None:
    """Size, mean and deviation of the pictures, and labels, that timm says of one of its networks; None for other networks.

    Raises:
        ModelError: if timm is not installed, or does not know the name.
    """
    name, arguments = resolved(name, model_args)
    source, rest = source_of(name)
    if source != TIMM:
        return None
    check_model(name)
    return _timm.defaults(rest, arguments)


def check_model(name: str) -> None:
    """Refuse a name that `build_model` would not know, without building anything.

    Raises:
        ModelError: if the name is unknown, there is no such factory, or the library is not installed.
    """
    source, rest = source_of(name)
    if source == HUB:
        _timm.of_hub(rest)
    elif source == TIMM:
        if not _timm.is_known(rest):
            raise _unknown(name)
    elif is_factory(name):
        _factory.find(name)
    elif rest not in classifier_names() and (source or rest not in OWN):
        raise _unknown(name)


def _build(name: str, arguments: Mapping[str, Any], *, num_classes: int, in_channels: int) -> nn.Module:
    numbers = {"num_classes": num_classes, "in_channels": in_channels}
    if is_factory(name):
        return _factory.build(name, arguments, **numbers)
    check_model(name)
    source, rest = source_of(name)
    check_arguments(name, arguments)
    if source == TIMM:
        make = partial(_timm.build, rest, arguments, **numbers)
    elif source != TORCHVISION and rest in OWN:
        make = partial(_factory.call, name, OWN[rest], arguments, **numbers)
    else:
        make = partial(_classifiers.build, rest, arguments, **numbers)
    if arguments:  # they may stand in a file, and ask for any width and depth
        _check_size(name, make)
    return make()


def _check_size(name: str, make: Callable[[], nn.Module]) -> None:
    """Refuse a network of very many parameters before they take memory."""
    with torch.device("meta"):
        found = sum(parameter.numel() for parameter in make().parameters())
    if found > MOST_PARAMETERS:
        raise ModelError(f"{name} has {found:,} parameters with the arguments given: at most {MOST_PARAMETERS:,} are built.")


def _unknown(name: str) -> ModelError:
    """An unknown name, and the nearest of all the names that there are."""
    source, _ = source_of(name)
    if source == TORCHVISION:
        meant = {(given := f"{source}:{other}"): given for other in classifier_names()}
    elif source == TIMM:
        meant = {(given := f"{source}:{other}"): given for other in _timm.names()}
    else:
        meant = {other: f"{TIMM}:{other}" for other in _timm.names()} | {other: other for other in model_names()}
    return ModelError(unknown("Unknown model", name, model_names(), f"; {OTHERS}", meant=meant))
