"""ONNX graphs as the converters need them, and as they are to be shipped."""

from __future__ import annotations

import onnx

from slimnet.errors import ExportError
from slimnet.onnx.metadata import parse
from slimnet.onnx.opset import first_line
from slimnet.onnx.strip import strip

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators with weights, whose first and last may be left in float32."""
_STANDARD = ("", "ai.onnx")
_PRODUCER = "slimnet"


def load(data: bytes) -> onnx.ModelProto:
    """Parse a network whose nodes all have a name of their own.

    Raises:
        FileFormatError: if it is not valid ONNX.
    """
    proto = parse(data, "the network")
    _name_nodes(proto)
    return proto


def weighted_layers(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the nodes with weights, in the order in which they run."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    return tuple(node.name for node in proto.graph.node if node.op_type in WEIGHTED and constants & set(node.input[1:]))


def finished(proto: onnx.ModelProto, *, like: onnx.ModelProto) -> bytes:
    """The bytes of a converted network: the same for the same network, whoever converted it when.

    What only the converters need is taken out; metadata is that of the network it was made from.

    Args:
        proto: the converted network; changed in place.
        like: what it was made from.

    Raises:
        ExportError: if it is not valid ONNX.
    """
    strip(proto)
    proto.graph.ClearField("value_info")  # converters leave shapes in the order of a set
    for entry in like.metadata_props:
        proto.metadata_props.add(key=entry.key, value=entry.value)
    proto.producer_name, proto.producer_version = _PRODUCER, ""
    proto.graph.name = like.graph.name
    used = {node.domain for node in proto.graph.node}
    kept = [entry for entry in proto.opset_import if entry.domain in _STANDARD or entry.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(sorted(kept, key=lambda entry: entry.domain))
    try:
        onnx.checker.check_model(proto, full_check=True)
        return bytes(proto.SerializeToString(deterministic=True))
    except Exception as error:  # the checker's error, or protobuf's limit of 2 GB
        raise ExportError(f"the converted network is not valid ONNX: {first_line(error)}") from error


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Give nodes without a name, or with another's, one of their own, in place."""
    seen: set[str] = set()
    for number, node in enumerate(proto.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}_{node.output[0]}"
        seen.add(node.name)
