"""ONNX files of tf2onnx, from Keras networks (TensorFlow), and of Keras's own export: ``python keras_files.py FOLDER``.

Needs tensorflow-cpu, tf2onnx and onnx. Norms get scales and shifts by chance and the statistics of what they see.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from _files import make_files
from keras import layers

APPS = keras.applications


def randomise(model: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    """Scales and shifts of norms by chance, biases too; running statistics from a batch of noise. In place."""
    source = np.random.default_rng(0)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, layers.BatchNormalization)]
    for norm in norms:
        if norm.scale:
            norm.gamma.assign(source.uniform(0.5, 1.5, norm.gamma.shape))
        if norm.center:
            norm.beta.assign(source.normal(0, 0.3, norm.beta.shape))
    for layer in model._flatten_layers():
        if getattr(layer, "bias", None) is not None and not isinstance(layer, layers.BatchNormalization):
            layer.bias.assign(source.normal(0, 0.1, layer.bias.shape))
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        model(source.normal(0, 1, (8, *shape)).astype("float32"), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


def convert(
    build: Callable[..., keras.Model],
    size: int,
    opset: int,
    special: str,
    path: Path,
    *,
    batch: int | None = None,
    nchw: bool = False,
) -> dict[str, Any]:
    """By tf2onnx."""
    keras.utils.set_random_seed(0)
    shape = (size, size, 3)
    model = randomise(build(shape), shape)
    signature = [tf.TensorSpec((batch, *shape), tf.float32, name="input")]
    call = tf.function(lambda x: model(x, training=False), input_signature=signature)
    options: dict[str, Any] = {"inputs_as_nchw": ["input"]} if nchw else {}
    tf2onnx.convert.from_function(call, signature, opset=opset, output_path=str(path), **options)
    first = "N" if batch is None else batch
    return {"opset": opset, "special": special, "shape": [first, 3, size, size] if nchw else [first, *shape]}


def export(build: Callable[..., keras.Model], size: int, special: str, path: Path) -> dict[str, Any]:
    """By Keras."""
    keras.utils.set_random_seed(0)
    shape = (size, size, 3)
    model = randomise(build(shape), shape)
    model.export(path, format="onnx", verbose=False)
    return {"special": special, "shape": ["N", *shape]}


def app(name: str, **settings: Any) -> Callable[..., keras.Model]:
    return lambda shape: getattr(APPS, name)(weights=None, input_shape=shape, classes=10, **settings)


def small(shape: tuple[int, ...]) -> keras.Model:
    """Convolutions with SAME padding and strides, a depthwise one, a residual sum, a Flatten and two dense layers."""
    x = inside = keras.Input(shape)
    x = layers.Conv2D(12, 3, strides=2, padding="same", use_bias=False)(x)
    x = stream = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.ZeroPadding2D(1)(x)
    x = layers.DepthwiseConv2D(3, use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(scale=False)(x))
    x = layers.Conv2D(12, 1)(x)
    x = layers.Add()([layers.BatchNormalization()(x), stream])
    x = layers.LeakyReLU()(layers.Conv2D(16, 3, padding="same")(x))
    x = layers.AveragePooling2D(2)(x)
    x = layers.UpSampling2D(2)(x)
    x = layers.Concatenate()([x, stream])
    x = layers.MaxPooling2D(2, padding="same")(layers.Conv2D(8, 3, padding="same", activation="elu")(x))
    x = layers.Flatten()(x)
    x = layers.Dense(24, activation="relu")(x)
    return keras.Model(inside, layers.Dense(10, activation="softmax")(x))


def squeezed(shape: tuple[int, ...]) -> keras.Model:
    """Squeeze-excite by global pool and Dense, swish, a separable and a transposed convolution."""
    x = inside = keras.Input(shape)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Dense(16, activation="sigmoid")(layers.Dense(8, activation="relu")(gate))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 16))(gate)])
    x = layers.SeparableConv2D(20, 3, padding="same", activation="relu")(x)
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2DTranspose(12, 2, strides=2)(x))
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(14, 3, activation="hard_sigmoid")(x))
    return keras.Model(inside, layers.Dense(10)(x))


KERAS = {
    "resnet50-op13": partial(convert, app("ResNet50"), 64, 13, "NHWC, Pad apart, residual sums"),
    "mobilenetv2-op15": partial(convert, app("MobileNetV2"), 64, 15, "depthwise, ReLU6, Pad apart"),
    "mobilenetv2-op11-nchw": partial(convert, app("MobileNetV2"), 64, 11, "input turned to NCHW", nchw=True),
    "mobilenet-op17": partial(convert, app("MobileNet"), 64, 17, "depthwise"),
    "mobilenetv3small-op17": partial(convert, app("MobileNetV3Small"), 64, 17, "squeeze-excite, hard swish written out"),
    "efficientnetv2b0-op16": partial(
        convert, app("EfficientNetV2B0", include_preprocessing=False), 64, 16, "squeeze-excite, fused"
    ),
    "densenet121-op14": partial(convert, app("DenseNet121"), 64, 14, "concatenations, norms before convolutions"),
    "xception-op18": partial(convert, app("Xception"), 72, 18, "separable convolutions"),
    "inceptionv3-op12-static": partial(convert, app("InceptionV3"), 80, 12, "static batch", batch=2),
    "small-op9": partial(convert, small, 16, 9, "small, oldest opset"),
    "small-op18": partial(convert, small, 16, 18, "small: SAME, residual sum, up-sampling, concatenation"),
    "squeezed-op13": partial(convert, squeezed, 16, 13, "small: squeeze-excite, swish, transposed convolution"),
}
OWN = {
    "resnet50v2": partial(export, app("ResNet50V2"), 64, "Keras's model.export"),
    "mobilenetv2": partial(export, app("MobileNetV2"), 64, "Keras's model.export"),
    "small": partial(export, small, 16, "Keras's model.export"),
}

if __name__ == "__main__":
    packages = ("tf2onnx", "tensorflow-cpu", "keras", "onnx")
    sys.exit(make_files("tf2onnx", packages, KERAS) or make_files("keras", packages, OWN))
