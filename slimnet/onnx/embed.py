"""The network with its preprocessing inside: bytes of pictures in, probabilities out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from slimnet.errors import ExportError
from slimnet.onnx.write import checked

INPUT, OUTPUT = "image", "probabilities"
_NAMES = "preprocessing/"


def embed(data: bytes, preprocessing: Mapping[str, Any], *, temperature: float = 1.0) -> bytes:
    """Put normalisation in front of a classifier, and softmax behind it.

    Resizing stays outside. 255·mean is subtracted before the first convolution, since folded into its bias it would be wrong
    along a zero-padded border; 1/(255·std) goes into the convolution's weights, which is exact up to rounding, or is a
    multiplication where the network does not begin with a plain convolution.

    Args:
        data: an ONNX classifier with one input (N, C, H, W) float32 and one output of logits (N, classes).
        preprocessing: as :func:`slimnet.preprocess.describe` gives it.
        temperature: what the logits are divided by before softmax.

    Returns:
        An ONNX file with the input ``image``, uint8 (N, H, W, C), and the output ``probabilities``, float32 (N, classes).

    Raises:
        ExportError: if the network has other inputs or outputs.
    """
    proto = onnx.load_from_string(data)
    graph = proto.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise ExportError(f"preprocessing goes before one input, the network has {len(graph.input)}.")
    entry, logits = graph.input[0], graph.output[0]
    batch, classes = entry.type.tensor_type.shape.dim[0], logits.type.tensor_type.shape.dim[1]
    size = (batch.dim_param or batch.dim_value, *preprocessing["size"], preprocessing["channels"])
    mean = 255 * np.array(preprocessing["mean"], np.float64)
    scale = 1 / (255 * np.array(preprocessing["std"], np.float64))

    folded = _fold(graph, entry.name, scale)
    steps = [("Sub", "mean", mean)] if folded else [("Sub", "mean", mean), ("Mul", "scale", scale)]
    before = _before(graph, steps, entry.name)
    after = _after(graph, logits.name, temperature)
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.value_info.extend([entry, logits])
    shape = (size[0], classes.dim_param or classes.dim_value)
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, size))
    graph.output[0].CopyFrom(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))
    return checked(proto, "the network with its preprocessing")


def _after(graph: onnx.GraphProto, logits: str, temperature: float) -> list[onnx.NodeProto]:
    """Nodes from the logits to the probabilities."""
    if temperature == 1:
        return [helper.make_node("Softmax", [logits], [OUTPUT], name="softmax", axis=1)]
    divisor, cooled = "temperature/value", "temperature"
    graph.initializer.append(_tensor(np.array([temperature], np.float64), divisor))
    return [
        helper.make_node("Div", [logits, divisor], [cooled], name="temperature"),
        helper.make_node("Softmax", [cooled], [OUTPUT], name="softmax", axis=1),
    ]


def _before(graph: onnx.GraphProto, steps: list[tuple[str, str, NDArray[np.float64]]], result: str) -> list[onnx.NodeProto]:
    """Nodes from the picture to the tensor that was the input; their constants go into the graph."""
    names = [f"{_NAMES}{step}" for step in ("float", "planes", *(name for _, name, _ in steps[:-1]))]
    outputs = [*names, result]
    nodes = [
        helper.make_node("Cast", [INPUT], [outputs[0]], name=f"{_NAMES}cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", [outputs[0]], [outputs[1]], name=f"{_NAMES}transpose", perm=(0, 3, 1, 2)),
    ]
    for place, (operator, name, values) in enumerate(steps, start=1):
        constant = f"{_NAMES}{name}/value"
        graph.initializer.append(_tensor(values.reshape(1, -1, 1, 1), constant))
        nodes.append(helper.make_node(operator, [outputs[place], constant], [outputs[place + 1]], name=f"{_NAMES}{name}"))
    return nodes


def _fold(graph: onnx.GraphProto, name: str, scale: NDArray[np.float64]) -> bool:
    """Multiply the weights of the one convolution that reads ``name``, in place; False where there is no such convolution."""
    readers = [node for node in graph.node if name in node.input]
    if len(readers) != 1 or readers[0].op_type != "Conv" or readers[0].input[0] != name:
        return False
    groups = next((attribute.i for attribute in readers[0].attribute if attribute.name == "group"), 1)
    weight = next((w for w in graph.initializer if w.name == readers[0].input[1]), None)
    uses = sum(list(node.input).count(readers[0].input[1]) for node in graph.node)
    if groups != 1 or weight is None or uses != 1:
        return False
    values = numpy_helper.to_array(weight).astype(np.float64) * scale[None, :, None, None]
    weight.CopyFrom(_tensor(values, weight.name))
    return True


def _tensor(values: NDArray[np.float64], name: str) -> TensorProto:
    return numpy_helper.from_array(values.astype(np.float32), name)
