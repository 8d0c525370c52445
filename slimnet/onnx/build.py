"""Small networks, made node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from slimnet.onnx.file import read_network

Shape = Sequence[int | str] | None
"""Of a float32 tensor: a name stands for a size that is open; None where nothing is said."""


def node(op: str, inputs: Sequence[str], output: str, *, name: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node with one output."""
    return helper.make_node(op, inputs, [output], name=name or None, **attributes)


def network(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    constants: Mapping[str, NDArray[Any]],
    opset: int,
    name: str = "part",
    ir_version: int | None = None,
) -> onnx.ModelProto:
    """A network of these nodes.

    Args:
        nodes: in the order in which they run.
        inputs, outputs: name → shape; float32.
        constants: name → array.
        opset: of ONNX's own operators.
        name: of the graph.
        ir_version: of the file; default: onnx's newest.
    """
    given = [numpy_helper.from_array(array, key) for key, array in constants.items()]
    graph = helper.make_graph(nodes, name, _ends(inputs), _ends(outputs), given)
    more = {} if ir_version is None else {"ir_version": ir_version}
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **more)


def reshaped(data: bytes, *, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> onnx.ModelProto:
    """The network of a file, to be run at other sizes than the file declares.

    Args:
        data: the file. Constants that it lists among its inputs, as old exporters do, are constants alone in what is returned.
        inputs, outputs: name → shape; float32.

    Raises:
        FileFormatError: if it is no ONNX file.
    """
    proto = read_network(data)
    del proto.graph.input[:], proto.graph.output[:], proto.graph.value_info[:]
    proto.graph.input.extend(_ends(inputs))
    proto.graph.output.extend(_ends(outputs))
    return proto


def _ends(shapes: Mapping[str, Shape]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
