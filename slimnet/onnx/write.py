"""ONNX files are written checked, the same bytes for the same network, and without what only says where it was exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from slimnet.errors import ExportError
from slimnet.onnx.lower.driver import held_opset
from slimnet.onnx.opset import first_line, with_opset

_SAYS_WHERE = ("doc_string", "metadata_props")


def write(proto: onnx.ModelProto, *, metadata: Mapping[str, str], name: str) -> bytes:
    """The bytes of a valid file that has this metadata, and no other documentation.

    Args:
        proto: the network; it is stripped in place.
        metadata: of the file.
        name: what an error calls it.

    Raises:
        ExportError: if it is not valid ONNX.
    """
    strip(proto)
    onnx.helper.set_model_props(proto, dict(metadata))
    return checked(proto, name)


def checked(proto: onnx.ModelProto, name: str) -> bytes:
    """The bytes of a valid file.

    Raises:
        ExportError: if it is not valid ONNX.
    """
    try:
        onnx.checker.check_model(proto, full_check=True)
        return serialised(proto)
    except Exception as error:  # the checker's error, or protobuf's limit of 2 GB
        raise ExportError(f"{name} is not valid ONNX: {first_line(error)}") from error


def in_opset(data: bytes, wanted: int) -> bytes:
    """The bytes of a file in another opset; the same bytes if it has that one.

    Raises:
        ExportError: if it cannot be written so, see :func:`slimnet.onnx.opset.with_opset`.
    """
    proto = onnx.load_from_string(data)
    return data if held_opset(proto) == wanted else checked(with_opset(proto, wanted), f"the network in opset {wanted}")


def serialised(proto: onnx.ModelProto | onnx.TensorProto) -> bytes:
    """Its bytes: the same for the same network."""
    return bytes(proto.SerializeToString(deterministic=True))


def strip(message: Any) -> None:
    """Clear documentation and metadata of a model and of everything in it, in place.

    torch's exporter gives every node source paths and stack traces of the machine that it ran on, and the
    graph a copy of the exported program's signature.
    """
    for field, value in message.ListFields():
        if field.name in _SAYS_WHERE:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in [value] if hasattr(value, "ListFields") else value:
                strip(child)
