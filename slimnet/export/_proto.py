"""What an ONNX file says of itself: opset, inputs, outputs, and what a deployer needs, in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx

from slimnet.errors import FileFormatError
from slimnet.measure.onnx_bounds import read_network

PREFIX = "slimnet."


def parse(data: bytes, name: str) -> onnx.ModelProto:
    """Read and check an ONNX file.

    Args:
        data: its bytes.
        name: what an error calls it.

    Raises:
        FileFormatError: if it is not valid ONNX, or asks for more than `slimnet.measure.onnx_bounds` allows.
    """
    proto = read_network(data, name)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # the checker's and shape inference's errors share no base class
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise FileFormatError(f"{name} is not valid ONNX ({reason}): it may be truncated.") from None
    return proto


def interface(proto: onnx.ModelProto) -> dict[str, Any]:
    """Opset, inputs and outputs as the file has them."""
    return {
        "opset": max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0),
        "inputs": [_value(value) for value in proto.graph.input],
        "outputs": [_value(value) for value in proto.graph.output],
    }


def described(model: Mapping[str, Any]) -> dict[str, str]:
    """Metadata for every ONNX file of a bundle: what of ``model.json`` it takes to use the network."""
    keys = ("format", "schema", "labels", "preprocessing")
    return {PREFIX + key: _text(model[key]) for key in keys if key in model}


def metadata(proto: onnx.ModelProto) -> dict[str, str]:
    """Metadata of slimnet in an ONNX file."""
    return {entry.key: entry.value for entry in proto.metadata_props if entry.key.startswith(PREFIX)}


def stamped(data: bytes, entries: Mapping[str, str]) -> bytes:
    """The same valid ONNX file with these entries in its metadata."""
    proto = onnx.load_from_string(data)
    kept = {entry.key: entry.value for entry in proto.metadata_props if not entry.key.startswith(PREFIX)}
    onnx.helper.set_model_props(proto, {**kept, **entries})
    return bytes(proto.SerializeToString(deterministic=True))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _value(value: onnx.ValueInfoProto) -> dict[str, Any]:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return {"name": value.name, "dtype": str(kind).removesuffix("_type"), "shape": []}
    tensor = value.type.tensor_type
    dims = [d.dim_param or d.dim_value for d in tensor.shape.dim]
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return {"name": value.name, "dtype": dtype, "shape": dims}
