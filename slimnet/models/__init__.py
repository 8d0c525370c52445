"""Networks by name: CIFAR ResNets, torchvision classifiers, user factories; and their initial weights."""

from __future__ import annotations

from slimnet.models.build import build_model, model_names
from slimnet.models.resnet import BasicBlock, CifarResNet, PadShortcut
from slimnet.models.weights import load_weights

__all__ = ["BasicBlock", "CifarResNet", "PadShortcut", "build_model", "load_weights", "model_names"]
