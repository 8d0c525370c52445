"""Small ONNX files as other exporters write them, with weights of which some filters are zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]


def model(body: str, weights: Mapping[str, Array], *, opset: int = 17, inputs: str = "float[N, 3, 8, 8] x") -> onnx.ModelProto:
    """A file of the nodes in ``body`` (onnx's own text form), which makes ``y`` of ``x``."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> net ({inputs}) => (float[N, K] y) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.helper.set_model_props(proto, {"author": "somebody"})
    return proto


def random(*shape: int, seed: int = 0, zero: tuple[int, ...] = (), dim: int = 0) -> Array:
    """Weights, with zero rows along a dimension."""
    array: Array = np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)
    np.moveaxis(array, dim, 0)[list(zero)] = 0
    return array


GONE = (1, 4, 6)
CONV = """
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w, b)
    r = Relu (c)
"""
CONV_WEIGHTS = {"w": random(8, 3, 3, 3, zero=GONE), "b": random(8, zero=GONE)}
HEAD = """
    p = GlobalAveragePool (r)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, v, u)
"""
HEAD_WEIGHTS = {"v": random(5, 8), "u": random(5)}
"""A convolution of eight filters, three of them zero, and a linear layer behind."""


def plain(opset: int = 17) -> onnx.ModelProto:
    """Convolution, ReLU, pool, linear layer."""
    return model(CONV + HEAD, CONV_WEIGHTS | HEAD_WEIGHTS, opset=opset)


def shapes(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Constant → shape."""
    return {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
