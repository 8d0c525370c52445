"""The opset that a file really holds."""

from __future__ import annotations

import onnx
from onnx import version_converter

from slimnet.errors import ArgumentError, ExportError, one_line

DEFAULT_OPSET = 20
"""What torch's exporter gives by itself, and the newest that onnxruntime-web takes."""
OLDEST_NATIVE = 18
"""Older ones are converted from this."""


def with_opset(proto: onnx.ModelProto, wanted: int) -> onnx.ModelProto:
    """The same model in the wanted opset: really, not only by request.

    Raises:
        ExportError: if it cannot be converted.
    """
    held = _held_opset(proto)
    if held != wanted:
        try:
            proto = version_converter.convert_version(proto, wanted)
            onnx.checker.check_model(proto)  # the converter may leave attributes that the opset does not know
        except Exception as error:
            raise ExportError(
                f"opset {wanted} is not to be had: the exporter gives {held}, and converting failed "
                f"({first_line(error)}). Choose {OLDEST_NATIVE} or more."
            ) from error
    held = _held_opset(proto)
    if held != wanted:
        raise ExportError(f"opset {wanted} was asked for, but the file holds {held}: choose {held}.")
    return proto


def _held_opset(proto: onnx.ModelProto) -> int:
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)


def chosen_opset(opset: int | None) -> int:
    """The opset asked for, or the default.

    Raises:
        ArgumentError: if the installed onnx does not know it.
    """
    opset = DEFAULT_OPSET if opset is None else opset
    newest = onnx.defs.onnx_opset_version()
    if not 7 <= opset <= newest:
        raise ArgumentError(f"`opset` must be from 7 to {newest}, got {opset}.")
    return opset


def first_line(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error)
