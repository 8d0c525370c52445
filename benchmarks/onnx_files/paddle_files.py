"""ONNX files of paddle2onnx, from PaddlePaddle's networks: ``python paddle_files.py FOLDER``.

Needs paddlepaddle and paddle2onnx. Norms get scales and shifts by chance and the statistics of what they see.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from _files import make_files
from paddle import nn
from paddle.vision import models


def randomise(model: nn.Layer, shape: tuple[int, ...]) -> nn.Layer:
    """Scales and shifts of norms by chance, biases too; running statistics from a batch of noise. In place."""
    source = np.random.default_rng(0)
    norms = [layer for layer in model.sublayers() if isinstance(layer, nn.BatchNorm2D | nn.BatchNorm)]
    for norm in norms:
        norm.weight.set_value(source.uniform(0.5, 1.5, norm.weight.shape).astype("float32"))
        norm.bias.set_value(source.normal(0, 0.3, norm.bias.shape).astype("float32"))
    for layer in model.sublayers():
        if isinstance(layer, nn.Conv2D | nn.Linear | nn.Conv2DTranspose) and layer.bias is not None:
            layer.bias.set_value(source.normal(0, 0.1, layer.bias.shape).astype("float32"))
    momenta = [norm._momentum for norm in norms]
    for norm in norms:
        norm._momentum = 0.0
    if norms:
        model.train()
        model(paddle.to_tensor(source.normal(0, 1, (8, *shape[1:])).astype("float32")))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm._momentum = momentum
    model.eval()
    return model


def export(
    build: Callable[[], nn.Layer], size: int, opset: int, special: str, path: Path, *, batch: int | None = None, **options: Any
) -> dict[str, Any]:
    paddle.seed(0)
    model = randomise(build(), (1, 3, size, size))
    spec = [paddle.static.InputSpec([batch, 3, size, size], "float32", "input")]
    paddle.onnx.export(model, str(path.with_suffix("")), input_spec=spec, opset_version=opset, **options)
    return {"opset": opset, "special": special, "shape": ["N" if batch is None else batch, 3, size, size]}


class Small(nn.Layer):
    """Convolutions with norms, a depthwise one, a residual sum, up-sampling, concatenation, a Flatten and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, 12, 3, 2, 1, bias_attr=False), nn.BatchNorm2D(12), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2D(12, 12, 3, padding=1, groups=12), nn.BatchNorm2D(12), nn.Hardswish())
        self.wide = nn.Sequential(nn.Conv2D(12, 12, 1), nn.BatchNorm2D(12))
        self.next = nn.Sequential(nn.Conv2D(12, 16, 3, padding=1), nn.ELU(), nn.AvgPool2D(2))
        self.up = nn.Conv2DTranspose(16, 10, 2, 2)
        self.last = nn.Sequential(nn.Conv2D(22, 8, 3, padding="SAME"), nn.Swish(), nn.MaxPool2D(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 16, 24), nn.ReLU(), nn.Linear(24, 10), nn.Softmax())

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        stream = self.stem(x)
        y = nn.functional.relu(self.wide(self.deep(stream)) + stream)
        y = self.up(self.next(y))
        return self.head(self.last(paddle.concat([y, stream], 1)))


def net(name: str, **settings: Any) -> Callable[[], nn.Layer]:
    return lambda: getattr(models, name)(num_classes=10, **settings)


PADDLE = {
    "resnet18-op11": partial(export, net("resnet18"), 64, 11, "norms unfolded"),
    "resnet50-op14": partial(export, net("resnet50"), 64, 14, ""),
    "mobilenet_v1-op9": partial(export, net("mobilenet_v1", scale=0.5), 64, 9, "depthwise"),
    "mobilenet_v2-op13": partial(export, net("mobilenet_v2"), 64, 13, "depthwise, ReLU6"),
    "mobilenet_v3_small-op12": partial(export, net("mobilenet_v3_small"), 64, 12, "hard swish, squeeze-excite"),
    "shufflenet_v2_x0_25-op11": partial(export, net("shufflenet_v2_x0_25"), 64, 11, "channel shuffle"),
    "squeezenet1_1-op15": partial(export, net("squeezenet1_1"), 64, 15, "no norms"),
    "densenet121-op16": partial(export, net("densenet121"), 64, 16, "concatenations"),
    "resnext50-op11-static": partial(export, net("resnext50_32x4d"), 64, 11, "grouped convolutions, static batch", batch=2),
    "small-op9": partial(export, Small, 16, 9, "small, oldest opset"),
    "small-op17": partial(export, Small, 16, 17, "small: residual sum, transposed convolution, concatenation"),
}

if __name__ == "__main__":
    sys.exit(make_files("paddle2onnx", ("paddle2onnx", "paddlepaddle", "onnx"), PADDLE))
