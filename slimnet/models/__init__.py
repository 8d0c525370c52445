"""Networks by name: CIFAR ResNets, torchvision classifiers, user factories; and their initial weights."""

from __future__ import annotations

from slimnet.models.build import build_model, check_model, model_names
from slimnet.models.resnet import BasicBlock, CifarResNet, PadShortcut
from slimnet.models.weights import check_file, load_weights

__all__ = [
    "BasicBlock",
    "CifarResNet",
    "PadShortcut",
    "build_model",
    "check_file",
    "check_model",
    "load_weights",
    "model_names",
]
