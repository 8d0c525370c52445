"""ONNX files of jax2onnx, from networks in Flax NNX: ``python jax_files.py FOLDER``.

Needs jax2onnx, flax and jax. Norms get scales and shifts by chance and the statistics of what they see.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _files import make_files
from flax import nnx
from jax2onnx import to_onnx


class Unit(nnx.Module):
    """Convolution and norm."""

    def __init__(self, inside: int, outside: int, *, stride: int = 1, size: int = 3, groups: int = 1, rngs: nnx.Rngs) -> None:
        shape = (size, size)
        self.conv = nnx.Conv(
            inside, outside, shape, strides=stride, padding="SAME", feature_group_count=groups, use_bias=False, rngs=rngs
        )
        self.norm = nnx.BatchNorm(outside, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.norm(self.conv(x))


class Residual(nnx.Module):
    """Two units and a shortcut, projected where the width changes."""

    def __init__(self, inside: int, outside: int, stride: int, *, rngs: nnx.Rngs) -> None:
        self.first = Unit(inside, outside, stride=stride, rngs=rngs)
        self.second = Unit(outside, outside, rngs=rngs)
        self.shortcut = Unit(inside, outside, stride=stride, size=1, rngs=rngs) if inside != outside else None

    def __call__(self, x: Any) -> Any:
        y = self.second(nnx.relu(self.first(x)))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    """A small ResNet."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.stem = Unit(3, 16, rngs=rngs)
        self.blocks = nnx.List([Residual(a, b, s, rngs=rngs) for a, b, s in ((16, 16, 1), (16, 32, 2), (32, 48, 2))])
        self.head = nnx.Linear(48, 10, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


class Mobile(nnx.Module):
    """Inverted residuals with depthwise convolutions and SiLU; pools, a flatten, two linear layers."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.stem = Unit(3, 12, stride=2, rngs=rngs)
        self.wide, self.deep = Unit(12, 32, size=1, rngs=rngs), Unit(32, 32, groups=32, rngs=rngs)
        self.narrow = Unit(32, 12, size=1, rngs=rngs)
        self.last = nnx.Conv(12, 20, (3, 3), rngs=rngs)
        self.dense, self.head = nnx.Linear(4 * 4 * 20, 24, rngs=rngs), nnx.Linear(24, 10, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.silu(self.stem(x))
        x = x + self.narrow(nnx.relu(self.deep(nnx.relu6(self.wide(x)))))
        x = nnx.max_pool(nnx.leaky_relu(self.last(x)), window_shape=(2, 2), strides=(2, 2))
        return nnx.softmax(self.head(nnx.relu(self.dense(x.reshape(x.shape[0], -1)))))


def randomise(model: nnx.Module, shape: tuple[int, ...]) -> nnx.Module:
    """Scales and shifts of norms by chance; running statistics from a batch of noise. In place."""
    source = np.random.default_rng(0)
    found = [part for _, part in nnx.iter_modules(model) if isinstance(part, nnx.BatchNorm)]
    for norm in found:
        norm.scale.value = jnp.asarray(source.uniform(0.5, 1.5, norm.scale.value.shape), jnp.float32)
        norm.bias.value = jnp.asarray(source.normal(0, 0.3, norm.bias.value.shape), jnp.float32)
        norm.momentum = 0.0
    model.train()
    model(jnp.asarray(source.normal(0, 1, (8, *shape)), jnp.float32))
    for norm in found:
        norm.momentum = 0.99
    model.eval()
    return model


def export(build: Callable[..., nnx.Module], size: int, special: str, path: Path, **options: Any) -> dict[str, Any]:
    shape = (size, size, 3)
    model = randomise(build(rngs=nnx.Rngs(0)), shape)
    to_onnx(model, [("B", *shape)], return_mode="file", output_path=str(path), **options)
    return {"special": special, "shape": ["N", *shape]}


JAX = {
    "resnet": partial(export, ResNet, 32, "NHWC"),
    "mobile": partial(export, Mobile, 16, "NHWC, depthwise, flatten"),
}

if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    sys.exit(make_files("jax2onnx", ("jax2onnx", "jax", "flax"), JAX))
