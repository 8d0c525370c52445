"""What an ONNX file says of itself: opset, inputs, outputs, and what a deployer needs, in its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from slimnet._json import decode, encode
from slimnet.errors import FileFormatError, one_line
from slimnet.onnx.file import read_network
from slimnet.onnx.write import serialised

PREFIX = "slimnet."
MAY_LACK = (f"{PREFIX}model", f"{PREFIX}version")
"""What files of older bundles do not say."""


def parse(data: bytes, name: str) -> onnx.ModelProto:
    """Read and check an ONNX file.

    Args:
        data: its bytes.
        name: what an error calls it.

    Raises:
        FileFormatError: if it is not valid ONNX, or asks for more than `slimnet.onnx.file` allows.
    """
    proto = read_network(data, name)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # the checker's and shape inference's errors share no base class
        raise FileFormatError(f"{name} is not valid ONNX ({one_line(error)}): it may be truncated.") from None
    return proto


def interface(proto: onnx.ModelProto) -> dict[str, Any]:
    """Opset, inputs and outputs as the file has them."""
    return {
        "opset": max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0),
        "inputs": [_value(value) for value in proto.graph.input],
        "outputs": [_value(value) for value in proto.graph.output],
    }


def of_size(proto: onnx.ModelProto, shape: Sequence[int]) -> bytes:
    """The bytes of a file whose first input has these sizes behind the batch, also where it left them open.

    Args:
        proto: the network; it is changed in place.
        shape: (C, H, W) of an image.
    """
    for dim, size in zip(proto.graph.input[0].type.tensor_type.shape.dim[1:], shape, strict=True):
        dim.dim_value = size
    return serialised(proto)


def described(model: Mapping[str, Any]) -> dict[str, str]:
    """Metadata for every ONNX file of a bundle: what of ``model.json`` it takes to use the network, and what it is.

    That is the name of the network that was slimmed, and the version of slimnet; files of before do not have these.
    """
    keys = ("format", "schema", "labels", "preprocessing")
    known = model.get("provenance") or {}
    what = {"model": known.get("model"), "version": (known.get("versions") or {}).get("slimnet")}
    told = {key: model[key] for key in keys if key in model} | {key: text for key, text in what.items() if text}
    return {PREFIX + key: _text(value) for key, value in told.items()}


def metadata(proto: onnx.ModelProto) -> dict[str, str]:
    """Metadata of slimnet in an ONNX file."""
    return {entry.key: entry.value for entry in proto.metadata_props if entry.key.startswith(PREFIX)}


def onnx_labels(path: Path) -> tuple[str, ...] | None:
    """Names of the outputs of an ONNX file of a bundle, which carries them in its metadata; None where a file has none.

    Raises:
        FileFormatError: if the file is missing or no ONNX, or its names are damaged.
    """
    names = _entry(path, "labels")
    if names is None:
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise FileFormatError(f"{path}: `{PREFIX}labels` in its metadata must be a list of names.")
    return tuple(names)


def onnx_statistics(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation that a network of a bundle wants of its pictures, from the metadata of its file; None where it has none.

    Raises:
        FileFormatError: if the file is missing or no ONNX, or its metadata is damaged.
    """
    found = _entry(path, "preprocessing")
    if found is None:
        return None
    parts = [found.get(name) if isinstance(found, dict) else None for name in ("mean", "std")]
    for part in parts:
        if not isinstance(part, list) or not all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in part
        ):
            raise FileFormatError(
                f"{path}: `{PREFIX}preprocessing` in its metadata must hold lists of numbers, `mean` and `std`."
            )
    mean, std = (tuple(map(float, part)) for part in parts if part is not None)
    return mean, std


def _entry(path: Path, key: str) -> Any:
    """What the metadata of a file holds under a key, as JSON; None where there is none, or ``null``."""
    text = metadata(read_network(path)).get(f"{PREFIX}{key}")
    return None if text is None else decode(text, f"`{PREFIX}{key}` of {path}")


def stamped(data: bytes, entries: Mapping[str, str]) -> bytes:
    """The same valid ONNX file with these entries in its metadata."""
    proto = onnx.load_from_string(data)
    kept = {entry.key: entry.value for entry in proto.metadata_props if not entry.key.startswith(PREFIX)}
    onnx.helper.set_model_props(proto, {**kept, **entries})
    return serialised(proto)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value)


def _value(value: onnx.ValueInfoProto) -> dict[str, Any]:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return {"name": value.name, "dtype": str(kind).removesuffix("_type"), "shape": []}
    tensor = value.type.tensor_type
    dims = [d.dim_param or d.dim_value for d in tensor.shape.dim]
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return {"name": value.name, "dtype": dtype, "shape": dims}
