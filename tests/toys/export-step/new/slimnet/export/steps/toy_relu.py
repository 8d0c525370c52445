"""A ReLU of a ReLU is the ReLU."""

from __future__ import annotations

from typing import Any

from slimnet.onnx import graph as ir


def relu_once(model: Any) -> int:
    """Take out every ReLU that reads a ReLU, in place.

    Returns:
        How many were taken out.
    """
    found = [node for node in model.graph if node.op_type == "Relu" and _made_by(node) == "Relu"]
    for node in found:
        value = node.inputs[0]
        if node.outputs[0].is_graph_output():
            ir.redirect(model.graph, value.producer(), ir.insert(model.graph, node, "Relu", value.producer().inputs, sizes=[]))
        else:
            node.outputs[0].replace_all_uses_with(value)
            model.graph.remove(node, safe=True)
    return len(found)


def _made_by(node: ir.Node) -> str | None:
    producer = node.inputs[0].producer()
    return producer.op_type if producer is not None else None
