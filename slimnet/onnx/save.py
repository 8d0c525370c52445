"""ONNX files of other people written again, with their documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from slimnet.errors import ExportError
from slimnet.files import write_bytes
from slimnet.onnx.write import checked, serialised

MOST = 2**31 - 2**20
"""Bytes of one file; protobuf takes no more than 2 GB."""


def contents(proto: onnx.ModelProto, *, outputs: Sequence[str] = ()) -> bytes:
    """The bytes of a file, with these values among its outputs as well.

    Raises:
        ExportError: if they are more than a file may have.
    """
    named = {value.name for value in proto.graph.output}
    added = [name for name in outputs if name not in named]
    if added:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in added)
        proto = copy
    if proto.ByteSize() > MOST:
        raise ExportError(f"the network has {proto.ByteSize():,} bytes: more than {MOST:,} are not taken.")
    return serialised(proto)


def save(proto: onnx.ModelProto, path: Path, *, before: onnx.ModelProto | None = None) -> None:
    """Write a file: whole, or not at all; all of its weights are in it.

    Args:
        proto: the network.
        path: where to.
        before: what it was made of; where that is not valid (ONNX Runtime takes more than onnx's checker), it need not be.

    Raises:
        ExportError: if it is not valid ONNX, or has more than 2 GB.
        WriteError: if it cannot be written.
    """
    data = contents(proto)
    if before is None or is_valid(before):
        data = checked(proto, path.name)
    write_bytes(path, data)


def is_valid(proto: onnx.ModelProto) -> bool:
    """Whether onnx's checker takes it."""
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception:  # the checker's and shape inference's errors share no base class
        return False
    return True
