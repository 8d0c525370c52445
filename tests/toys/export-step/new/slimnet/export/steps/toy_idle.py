"""A ReLU of what is never negative does nothing."""

from __future__ import annotations

from typing import Any

from slimnet.onnx import graph as ir

_NEVER_NEGATIVE = {"Relu", "Sigmoid", "Softmax"}


def drop_idle_relu(model: Any) -> int:
    """Take out every ReLU that reads what is never negative, in place; not one that makes an output of the network.

    Returns:
        How many were taken out.
    """
    found = [node for node in model.graph if _is_idle(node)]
    for node in found:
        node.outputs[0].replace_all_uses_with(node.inputs[0])
        model.graph.remove(node, safe=True)
    return len(found)


def _is_idle(node: ir.Node) -> bool:
    producer = node.inputs[0].producer() if node.op_type == "Relu" else None
    return producer is not None and producer.op_type in _NEVER_NEGATIVE and not node.outputs[0].is_graph_output()
