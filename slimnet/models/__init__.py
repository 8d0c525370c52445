"""Networks by name: for CIFAR, for faces, torchvision's and timm's, user factories; and their initial weights."""

from __future__ import annotations

from slimnet.models._folders import weights_file
from slimnet.models._shapes import find_sizes
from slimnet.models._timm import Defaults
from slimnet.models.build import build_model, check_model, defaults_of, heads_of, model_names, resolved
from slimnet.models.resnet import BasicBlock, CifarResNet, PadShortcut
from slimnet.models.trust import Trust, check_trusted
from slimnet.models.vgg import CifarVGG16, FaceVGG13
from slimnet.models.vgg_face import VGGFace, VGGFaceGap
from slimnet.models.weights import check_file, load_weights

__all__ = [
    "BasicBlock",
    "CifarResNet",
    "CifarVGG16",
    "Defaults",
    "FaceVGG13",
    "PadShortcut",
    "Trust",
    "VGGFace",
    "VGGFaceGap",
    "build_model",
    "check_file",
    "check_model",
    "check_trusted",
    "defaults_of",
    "find_sizes",
    "heads_of",
    "load_weights",
    "model_names",
    "resolved",
    "weights_file",
]
