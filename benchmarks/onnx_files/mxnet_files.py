"""ONNX files of MXNet (mx2onnx), from the Gluon model zoo: ``python mxnet_files.py FOLDER``.

Needs Python 3.9 or older, mxnet 1.9, numpy < 1.24 and onnx < 1.13. Norms get scales and shifts by chance and the statistics of
what they see.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from _files import make_files
from mxnet import autograd, gluon
from mxnet import onnx as mx_onnx
from mxnet.gluon.model_zoo import vision


class Small(gluon.HybridBlock):
    """A stem, a depthwise convolution, a residual sum, concatenation, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        nn = gluon.nn
        with self.name_scope():
            self.stem, self.deep, self.wide = nn.HybridSequential(), nn.HybridSequential(), nn.HybridSequential()
            self.stem.add(nn.Conv2D(12, 3, 2, 1, use_bias=False), nn.BatchNorm(scale=False), nn.Activation("relu"))
            self.deep.add(nn.Conv2D(12, 3, 1, 1, groups=12, in_channels=12), nn.BatchNorm(), nn.LeakyReLU(0.1))
            self.wide.add(nn.Conv2D(12, 1), nn.BatchNorm())
            self.next, self.last = (
                nn.Conv2D(16, 3, padding=1, activation="relu"),
                nn.Conv2D(8, 3, padding=1, activation="softrelu"),
            )
            self.pool = nn.MaxPool2D(2)
            self.dense, self.head = nn.Dense(24, activation="relu"), nn.Dense(10)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        stream = self.stem(x)
        stream = F.relu(stream + self.wide(self.deep(stream)))
        y = F.concat(self.next(stream), stream, dim=1)
        return F.softmax(self.head(self.dense(self.pool(self.last(y)))))


def norms(block: gluon.Block) -> list[gluon.nn.BatchNorm]:
    return [block] if isinstance(block, gluon.nn.BatchNorm) else [n for child in block._children.values() for n in norms(child)]


def randomise(net: gluon.Block, size: int) -> gluon.Block:
    """Scales and shifts of norms by chance; running statistics from a batch of noise. In place."""
    source = np.random.default_rng(0)
    batch = mx.nd.array(source.normal(0, 1, (8, 3, size, size)))
    net(batch)
    for norm in norms(net):
        norm.gamma.set_data(mx.nd.array(source.uniform(0.5, 1.5, norm.gamma.shape)))
        norm.beta.set_data(mx.nd.array(source.normal(0, 0.3, norm.beta.shape)))
        norm._kwargs["momentum"] = 0.0
    with autograd.record():
        net(batch).sum().backward()
    mx.nd.waitall()
    for norm in norms(net):
        norm._kwargs["momentum"] = 0.9
    return net


def export(name: str, size: int, special: str, path: Path, *, dynamic: bool = True, **settings: Any) -> dict[str, Any]:
    mx.random.seed(0)
    np.random.seed(0)
    net = Small() if name == "small" else getattr(vision, name)(classes=10, **settings)
    net.initialize(mx.init.Xavier())
    randomise(net, size)
    net.hybridize()
    net(mx.nd.zeros((1, 3, size, size)))
    shape = (2, 3, size, size)
    options: dict[str, Any] = {"dynamic": True, "dynamic_input_shapes": [(None, *shape[1:])]} if dynamic else {}
    with tempfile.TemporaryDirectory() as folder:
        net.export(f"{folder}/net")
        parts = (f"{folder}/net-symbol.json", f"{folder}/net-0000.params")
        mx_onnx.export_model(*parts, in_shapes=[shape], in_types=[np.float32], onnx_file_path=str(path), **options)
    return {"special": special, "shape": ["N" if dynamic else 2, *shape[1:]]}


MXNET = {
    "small": partial(export, "small", 16, "small: depthwise, residual sum, concatenation"),
    "resnet18_v1": partial(export, "resnet18_v1", 64, "gamma fixed in some norms"),
    "resnet18_v2-static": partial(export, "resnet18_v2", 64, "norms before convolutions, static batch", dynamic=False),
    "mobilenet0_25": partial(export, "mobilenet0_25", 64, "depthwise"),
    "mobilenet_v2_0_5": partial(export, "mobilenet_v2_0_5", 64, "depthwise, ReLU6"),
    "squeezenet1_1": partial(export, "squeezenet1_1", 224, "no norms"),
    "densenet121": partial(export, "densenet121", 224, "concatenations"),
}

if __name__ == "__main__":
    sys.exit(make_files("mxnet", ("mxnet", "onnx"), MXNET))
