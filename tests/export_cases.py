"""Small networks to export, and the arguments that make a bundle of one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from slimnet.bundle.seal import file_entries, sealed
from slimnet.export import PrecisionFile, export_onnx
from slimnet.files import read_json
from slimnet.preprocess import describe
from slimnet.surgery import Plan

SHAPE = (3, 8, 8)


class Net(nn.Module):
    """Small, with everything that training and evaluation treat differently."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.drop(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3)) if float(x.sum()) > 0 else -x.sum((2, 3))


def network(num_classes: int, in_channels: int) -> Net:
    """What the bundles' ``config.json`` names."""
    assert (num_classes, in_channels) == (5, 3)
    return Net()


def net(seed: int = 0, width: int = 8) -> Net:
    torch.manual_seed(seed)
    model = Net(width)
    with torch.no_grad():
        for name, value in model.named_buffers():
            if "running" in name:
                value.uniform_(0.5, 1.5)
    return model


def real(samples: int = 12) -> Tensor:
    return torch.rand(samples, *SHAPE, generator=torch.Generator().manual_seed(1)) * 3 - 1


def perturbed(model: Net, by: float) -> Net:
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.linear.bias[0] += by
    return other


def reordered(model: Net) -> Net:
    """Equal up to rounding: the same channels in another order."""
    other = copy.deepcopy(model)
    for module in (other.conv, other.norm):
        for tensor in module.state_dict().values():
            tensor.copy_(tensor.flip(0)) if tensor.dim() else None
    other.linear.weight.data = other.linear.weight.data.flip(1)
    return other


def run_onnx(path: Path, *inputs: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [spec.name for spec in session.get_inputs()]
    return session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))[0]


PREPROCESSING = describe(size=SHAPE[1:], channels=3, mean=[0.5] * 3, std=[0.25] * 3)
LABELS = ["a", "b", "c", "d", "e"]


def resealed(folder: Path, **changes: object) -> None:
    """Give ``model.json`` the hashes of the files as they are now, as if they had been exported so."""
    model = read_json(folder / "model.json")
    (folder / "model.json").write_bytes(sealed({**model, "files": file_entries(folder), **changes}))


def told(temperature: float) -> dict[str, Any]:
    """What `model.json` may say of the probabilities of a network."""
    figures = {"count": 12, "nll": {"before": 1.5, "after": 1.25}, "ece": {"before": 0.25, "after": 0.125}}
    answered = [{"threshold": 0.0, "share": 1.0, "accuracy": 0.5}, {"threshold": 0.9, "share": 0.0, "accuracy": None}]
    measured = {"split": "test", **figures}
    return {"temperature": temperature, "fitted": {"split": "val", **figures}, "measured": measured, "answered": answered}


def bundle_arguments(**changes):
    slim = net()
    arguments = {
        "masked": reordered(slim),
        "slim": slim,
        "dense": net(1, width=16),
        "example_inputs": real(1),
        "plan": Plan((), ()).as_dict(),
        "config": {"model": "export_cases:network", "num_classes": 5, "in_channels": 3},
        "labels": LABELS,
        "preprocessing": PREPROCESSING,
        "real_inputs": [real()],
        "accuracy": {"split": "test", "count": 12, "slim": 0.5, "dense": 0.75},
        "extra_report": {"note": "é"},
    }
    return {**arguments, **changes}


EVALUATION = {
    "per_class": [1.0, 0.5, None, 0.0, 0.25],
    "confusion": [[2, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5, [4, 0, 0, 0, 0], [3, 0, 0, 0, 1]],
    "f1": [0.5, 0.6667, None, 0.0, 0.4],
    "macro_f1": 0.3917,
}


def full_arguments(folder: Path):
    """Everything that a bundle can hold. The other precisions are the same network: what is in a file is their maker's affair."""
    export_onnx(net(), real(1), folder / "again.onnx")
    data = (folder / "again.onnx").read_bytes()
    accuracy = {"split": "val", "count": 12, "value": 0.5}
    report = {"data": {"name": "toys", "train": 100, "terms": None}, "evaluation": {"slim": EVALUATION, "dense": EVALUATION}}
    return bundle_arguments(
        precisions={"fp16": PrecisionFile(data, {}), "int8": PrecisionFile(data, {"accuracy": accuracy, "method": "minmax"})},
        confidence=lambda name, _: told({"fp32": 1.75, "fp16": 0.5, "int8": 0.5}[name]),
        unsure_below=0.5,
        embed_preprocessing=True,
        provenance={"recipe": "r", "seed": 3},
        extra_report=report,
    )
