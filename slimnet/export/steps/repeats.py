"""A linear layer that reads the same number many times reads it once."""

from __future__ import annotations

from typing import Any

import numpy as np

from slimnet.onnx import graph as ir

LINEAR = (
    *("Add", "AveragePool", "Div", "Flatten", "Gather", "GatherND", "Mul", "ReduceMean", "ReduceSum", "Reshape", "Squeeze"),
    *("Sum", "Transpose", "Unsqueeze", "Where"),
)
"""Operators that a map may pass on its way to the linear layer; whether what they do together is linear is tried out."""
PLACES = 64
"""Maps of more places are left alone."""
ROWS = 256
"""Of the weights, converted to float64 at a time."""


def read_places_once(model: Any) -> int:
    """Let linear layers behind a pool that makes a small map larger read the small map, in place.

    ``AdaptiveAvgPool2d(7)`` of a 1×1 map, which is what VGG has for images of 48², repeats every number 49 times, and the weights
    of the linear layer behind it can be added up once and for all. The sums are rounded to float32 once.

    Returns:
        How many linear layers became smaller.
    """
    smaller = 0
    for node in [node for node in model.graph if node.op_type == "Gemm"]:
        found = _path(node)
        weights = None if found is None else ir.constant(node.inputs[1])
        if found is None or weights is None or not ir.attribute(node, "transB", 0) or ir.attribute(node, "transA", 0):
            continue
        source, nodes = found
        spread = _spread(source, nodes, node.inputs[0], weights.shape[1], model.opset_imports.get("", 1))
        if spread is not None:
            _read(model.graph, node, source, _sums(weights, spread))
            smaller += 1
    return smaller


def _path(gemm: ir.Node) -> tuple[ir.Value, list[ir.Node]] | None:
    """The first (N, C, H, W) map before a linear layer that has fewer numbers than the layer reads, and the nodes in between."""
    features = (ir.shape(gemm.inputs[0]) or [None])[-1]
    order = {id(node): place for place, node in enumerate(gemm.graph)}
    unread, nodes = {id(gemm.inputs[0]): gemm.inputs[0]}, list[ir.Node]()
    while features:
        if len(unread) == 1 and _is_small(ir.sizes_of_map(source := next(iter(unread.values()))), features):
            return source, nodes[::-1]
        producers = [value.producer() for value in unread.values()]
        if None in producers or any(node.op_type not in LINEAR for node in producers):
            return None
        node = max(producers, key=lambda producer: order[id(producer)])
        nodes.append(node)
        inputs = [value for value in node.inputs if value is not None and ir.constant(value) is None]
        unread = {key: value for key, value in unread.items() if value.producer() is not node}
        unread |= {id(value): value for value in inputs}
    return None


def _is_small(sizes: tuple[int, int, int] | None, features: int) -> bool:
    """Whether a map (C, H, W) has fewer numbers, and a whole number of features a channel could be made of it."""
    if sizes is None:
        return False
    channels, height, width = sizes
    return channels * height * width < features and features % channels == 0 and height * width <= PLACES


def _spread(source: ir.Value, nodes: list[ir.Node], output: ir.Value, features: int, opset: int) -> ir.Array | None:
    """(K, P): what each of the P places of a channel contributes to each of the K numbers made of it.

    None if the nodes do something else than that, alike for all channels; tried out on random numbers.
    """
    channels, height, width = ir.sizes_of_map(source) or (1, 1, 1)
    places, each = height * width, features // channels

    def run(array: ir.Array) -> ir.Array:
        return ir.evaluate(nodes, source, output, array.reshape(-1, channels, height, width).astype(np.float32), opset)

    one = np.broadcast_to(np.eye(places)[:, None], (places, channels, places))
    spread = run(one).reshape(places, channels, each)[:, 0].T.astype(np.float64)
    tried = np.random.default_rng(0).standard_normal((2, channels, places))
    expected = (tried @ spread.T).reshape(2, features)
    return spread if np.allclose(run(tried), expected, rtol=1e-5, atol=1e-5) else None


def _sums(weights: ir.Array, spread: ir.Array) -> ir.Array:
    """(F, C·K) weights of what is read as (F, C·P) weights of the places."""
    each, places = spread.shape
    summed = np.empty((len(weights), weights.shape[1] // each * places), weights.dtype)
    for start in range(0, len(weights), ROWS):
        rows = weights[start : start + ROWS]
        blocks = rows.reshape(len(rows), -1, each).astype(np.float64)
        sums = np.stack([(blocks * spread[:, place]).sum(axis=-1) for place in range(places)], axis=-1)
        summed[start : start + ROWS] = sums.reshape(len(rows), -1)
    return summed


def _read(graph: Any, gemm: ir.Node, source: ir.Value, weights: ir.Array) -> None:
    """Put a linear layer that reads the map itself in the place of one that reads what was made of it."""
    flat = ir.insert(graph, gemm, "Flatten", [source], sizes=[None, weights.shape[1]], axis=1)
    given = ir.initializer(graph, f"{gemm.outputs[0].name}_weight", weights)
    sizes = [None, len(weights)]
    value = ir.insert(graph, gemm, "Gemm", [flat, given, *gemm.inputs[2:]], sizes=sizes, **gemm.attributes)
    ir.redirect(graph, gemm, value)
