"""Multiply-adds of an ONNX file, from its nodes; the convention is that of :mod:`slimnet.measure.flops`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import onnx

Shape = tuple[int, ...]

OPAQUE = frozenset("Attention DeformConv Einsum GRU If LSTM Loop RNN Scan".split())
"""Operators that may multiply and add, and are not counted: a file that has one has no figure."""


def _convolution(inputs: Sequence[Shape], output: Shape, node: Any) -> int:
    return prod(output) * prod(inputs[1][1:])


def _transposed(inputs: Sequence[Shape], output: Shape, node: Any) -> int:
    return prod(inputs[0]) * prod(inputs[1][1:])


def _gemm(inputs: Sequence[Shape], output: Shape, node: Any) -> int:
    transposed = any(item.name == "transA" and item.i for item in node.attribute)
    return prod(output) * inputs[0][0 if transposed else 1]


def _product(inputs: Sequence[Shape], output: Shape, node: Any) -> int:
    return prod(output) * inputs[0][-1]


_COUNTS: Mapping[str, tuple[Callable[[Sequence[Shape], Shape, Any], int], tuple[int, int]]] = {
    "Conv": (_convolution, (0, 1)),
    "ConvInteger": (_convolution, (0, 1)),
    "QLinearConv": (_convolution, (0, 3)),
    "ConvTranspose": (_transposed, (0, 1)),
    "Gemm": (_gemm, (0, 1)),
    "MatMul": (_product, (0, 1)),
    "MatMulInteger": (_product, (0, 1)),
    "QLinearMatMul": (_product, (0, 3)),
}
"""Operator → what it costs, and which of its inputs are the two factors."""


def linear_reads(path: Path) -> list[int]:
    """How many features each linear layer (``Gemm`` with a stored weight) of an ONNX file reads, in the order of the graph.

    Args:
        path: an ONNX file.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    stored = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type == "Gemm" and node.input[1] in stored]
    turned = [any(item.name == "transB" and item.i for item in node.attribute) for node in layers]
    return [stored[node.input[1]][1 if transposed else 0] for node, transposed in zip(layers, turned, strict=True)]


def onnx_flops(path: Path) -> int | None:
    """Multiply-adds for one image, exactly, or None.

    None where a shape is not known, where an operator hides what it multiplies, or where the file is no ONNX model.

    Args:
        path: an ONNX file.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
        batch = _with_batch(model)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # protobuf and onnx raise what they like; whether the file runs is not decided here
        return None
    shapes = _shapes(model.graph)
    total = 0
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type in OPAQUE:
            return None
        if node.op_type in _COUNTS:
            count, factors = _COUNTS[node.op_type]
            known = [shapes.get(name) for name in (*(node.input[i] for i in factors), node.output[0])]
            found = [shape for shape in known if shape is not None]
            if len(found) < len(known):
                return None
            total += count(found[:2], found[2], node)
    return None if total % batch else total // batch


def _with_batch(model: Any) -> int:
    """Images a run: as fixed in the file, else 1, which it is changed to."""
    weights = {item.name for item in model.graph.initializer}
    batch = 1
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in weights or not dims:
            continue
        if dims[0].HasField("dim_value"):
            batch = dims[0].dim_value
        else:
            dims[0].dim_value = 1
    return batch


def _shapes(graph: Any) -> dict[str, Shape]:
    """Name → shape, where it is definite."""
    found = {item.name: tuple(item.dims) for item in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            found.setdefault(value.name, tuple(dim.dim_value for dim in tensor.shape.dim))
    return found
