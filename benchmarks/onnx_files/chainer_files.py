"""ONNX files of Chainer (onnx_chainer): ``python chainer_files.py FOLDER``.

Needs Python 3.9 or older, chainer 7, numpy < 1.24 and onnx < 1.13. Norms get scales and shifts by chance and the statistics of
what they see.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np
import onnx_chainer
from _files import make_files


def randomise(model: chainer.Chain, shape: tuple[int, ...]) -> chainer.Chain:
    """Scales and shifts of norms by chance, biases too; running statistics from a batch of noise. In place."""
    source = np.random.default_rng(0)
    found = [link for link in model.links() if isinstance(link, L.BatchNormalization)]
    for link in model.links():
        if isinstance(link, (L.Convolution2D, L.Linear)) and link.b is not None and link.b.array is not None:
            link.b.array[...] = source.normal(0, 0.1, link.b.shape)
    for norm in found:
        norm.gamma.array[...] = source.uniform(0.5, 1.5, norm.gamma.shape)
        norm.beta.array[...] = source.normal(0, 0.3, norm.beta.shape)
        norm.decay = 0.0
    with chainer.using_config("train", True), chainer.no_backprop_mode():
        model(source.normal(0, 1, (8, *shape[1:])).astype("f"))
    for norm in found:
        norm.decay = 0.9
    return model


def export(build: Callable[[], chainer.Chain], size: int, opset: int, special: str, path: Path) -> dict[str, Any]:
    np.random.seed(0)
    shape = (2, 3, size, size)
    model = randomise(build(), shape)
    with warnings.catch_warnings(), chainer.using_config("train", False):
        warnings.simplefilter("ignore")
        onnx_chainer.export(model, np.zeros(shape, "f"), filename=str(path), opset_version=opset)
    return {"opset": opset, "special": special, "shape": list(shape)}


class Small(chainer.Chain):
    """A stem, a residual block, a depthwise convolution, concatenation, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        with self.init_scope():
            self.stem = L.Convolution2D(3, 12, 3, stride=2, pad=1, nobias=True)
            self.norm = L.BatchNormalization(12)
            self.deep, self.norm2 = L.DepthwiseConvolution2D(12, 1, 3, pad=1), L.BatchNormalization(12)
            self.wide = L.Convolution2D(12, 12, 1)
            self.next = L.Convolution2D(12, 16, 3, pad=1)
            self.last = L.Convolution2D(28, 8, 3, pad=1)
            self.dense, self.head = L.Linear(8 * 16, 24), L.Linear(24, 10)

    def forward(self, x: Any) -> Any:
        stream = F.relu(self.norm(self.stem(x)))
        y = F.relu(self.norm2(self.deep(stream)))
        stream = F.relu(self.wide(y) + stream)
        y = F.concat((F.leaky_relu(self.next(stream)), stream), axis=1)
        y = F.max_pooling_2d(F.relu(self.last(y)), 2)
        return F.softmax(self.head(F.relu(self.dense(y))))


class ResNet(L.ResNet50Layers):
    """ResNet-50 that gives its classes."""

    def forward(self, x: Any) -> Any:
        return super().forward(x, layers=["prob"])["prob"]


def resnet50() -> chainer.Chain:
    return ResNet(pretrained_model=None)


CHAINER = {
    "resnet50-op11": partial(export, resnet50, 64, 11, "static batch"),
    "small-op9": partial(export, Small, 16, 9, "small, static batch"),
}

if __name__ == "__main__":
    sys.exit(make_files("chainer", ("chainer", "onnx"), CHAINER))
