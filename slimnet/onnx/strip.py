"""Take out of an ONNX model what only says where and how it was exported."""

from __future__ import annotations

from typing import Any

import onnx

_SAYS_WHERE = ("doc_string", "metadata_props")


def strip(proto: onnx.ModelProto) -> None:
    """Clear documentation and metadata of the model and of everything in it, in place.

    torch's exporter gives every node source paths and stack traces of the machine that it ran on, and the
    graph a copy of the exported program's signature.
    """
    _strip(proto)


def _strip(message: Any) -> None:
    for field, value in message.ListFields():
        if field.name in _SAYS_WHERE:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for child in [value] if hasattr(value, "ListFields") else value:
                _strip(child)
