"""The mean over all places as the operator that runtimes know best."""

from __future__ import annotations

from typing import Any

from slimnet.onnx import graph as ir


def use_global_pool(model: Any) -> int:
    """Replace every mean over (H, W) of an (N, C, H, W) map by ``GlobalAveragePool``, in place.

    ONNX Runtime computes the mean over places in the plain layout only, so that it brings the map out of the blocked layout of
    its convolutions first; ``GlobalAveragePool`` it computes in either.

    Returns:
        How many were replaced.
    """
    found = [node for node in model.graph if _is_mean_of_places(node)]
    for node in found:
        _, channels, *_ = ir.shape(node.inputs[0]) or [None, None]
        value = ir.insert(model.graph, node, "GlobalAveragePool", [node.inputs[0]], sizes=[None, channels, 1, 1])
        ir.redirect(model.graph, node, value)
    return len(found)


def _is_mean_of_places(node: ir.Node) -> bool:
    if node.op_type != "ReduceMean" or not ir.attribute(node, "keepdims", 1):
        return False
    axes = ir.attribute(node, "axes", None) or ir.integers(ir.argument(node, 1))
    sizes = ir.shape(node.inputs[0])
    return sizes is not None and len(sizes) == 4 and axes is not None and sorted(axis % 4 for axis in axes) == [2, 3]
