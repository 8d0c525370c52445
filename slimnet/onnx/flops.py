"""Multiply-adds of an ONNX file, from its nodes; the convention is that of :mod:`slimnet.measure.flops`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import onnx

from slimnet.onnx.file import MAX_RANK, read_network

Shape = tuple[int, ...]

MAX_PROPAGATED = 1 << 20
"""Values of a tensor that shapes are computed from; where there may be more, they are not followed."""
OPAQUE = frozenset("Attention DeformConv Einsum GRU If LSTM Loop RNN Scan".split())
"""Operators that may multiply and add, and are not counted: a file that has one has no figure."""


def _convolution(inputs: Sequence[Shape], output: Shape, node: Any) -> int:
    return prod(output) * prod(inputs[1][1:])


def _transposed(inputs: Sequence[Shape], output: Shape, node: Any) -> int:
    return prod(inputs[0]) * prod(inputs[1][1:])


def _gemm(inputs: Sequence[Shape], output: Shape, node: Any) -> int:
    return prod(output) * inputs[0][0 if _is_set(node, "transA") else 1]


def _is_set(node: Any, name: str) -> bool:
    return any(item.name == name and item.i for item in node.attribute)


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
    graph = read_network(path).graph
    stored = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type == "Gemm" and node.input[1] in stored]
    return [stored[node.input[1]][1 if _is_set(node, "transB") else 0] for node in layers]


def onnx_flops(path: Path) -> int | None:
    """Multiply-adds for one image, exactly, or None.

    None where a shape is not known, where an operator hides what it multiplies, or where the file is no ONNX model.

    Args:
        path: an ONNX file.
    """
    try:
        model = read_network(path)
        if model.functions or any(node.domain not in ("", "ai.onnx") or node.op_type in OPAQUE for node in model.graph.node):
            return None
        batch = _with_batch(model)
        model = onnx.shape_inference.infer_shapes(model, data_prop=_propagated(model.graph) <= MAX_PROPAGATED)
    except Exception:  # onnx raises what it likes; whether the file runs is not decided here
        return None
    shapes = _shapes(model.graph)
    total = 0
    for node in model.graph.node:
        if node.op_type in _COUNTS:
            count, factors = _COUNTS[node.op_type]
            known = [shapes.get(name) for name in (*(node.input[i] for i in factors), node.output[0])]
            found = [shape for shape in known if shape is not None]
            if len(found) < len(known):
                return None
            total += count(found[:2], found[2], node)
    return None if total % batch else total // batch


def _propagated(graph: Any) -> int:
    """At most how many values onnx follows through the graph for one tensor: with each ``Concat`` of a tensor with itself twice
    as many."""
    sizes = {item.name: max(item.dims, default=1) for item in graph.initializer}
    most = 1
    for node in graph.node:
        read = [sizes.get(name, MAX_RANK) for name in node.input if name]
        size = 1 if node.op_type in _COUNTS else sum(read) if node.op_type == "Concat" else max(read, default=MAX_RANK)
        most = max(most, size)
        sizes.update(dict.fromkeys(node.output, size))
    return most


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
