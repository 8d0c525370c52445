"""The opset that a file really holds."""

from __future__ import annotations

import onnx
from onnx import version_converter

from slimnet.errors import ArgumentError, ExportError, one_line
from slimnet.onnx.lower import CannotLowerError, lower, lowest
from slimnet.onnx.lower.driver import OLDEST, held_opset

DEFAULT_OPSET = 20
"""What torch's exporter gives by itself, and the newest that onnxruntime-web takes."""
OLDEST_NATIVE = 18
"""What torch's exporter gives at least; older ones are made from it."""
OLDEST_INT8 = 13
"""Before it, DequantizeLinear had one scale for all channels."""
_OLDEST_IR = 4
"""Before it, every constant had to be an input too."""


def with_opset(proto: onnx.ModelProto, wanted: int) -> onnx.ModelProto:
    """The same model in the wanted opset: really, not only by request. The one given may be changed.

    An older one is written operator by operator (:func:`slimnet.onnx.lower.lower`): onnx's version converter has no way back for
    Relu and Add, and lets pass what an older operator does not do (`Pad` that wraps around). It makes the newer ones. What comes
    out is checked, but compared with nothing: that is the caller's part.

    Args:
        proto: an ONNX model; its names, inputs, outputs and metadata stay.
        wanted: from 11 to the newest that onnx knows.

    Raises:
        ExportError: if it cannot be written so; naming the operator and the lowest opset that there can be.
    """
    held = held_opset(proto)
    if held == wanted:
        return _with_ir(proto, wanted)
    try:
        proto = lower(proto, wanted) if wanted < held else version_converter.convert_version(proto, wanted)
        onnx.checker.check_model(proto)
    except CannotLowerError as error:
        raise ExportError(f"opset {wanted} is not to be had: {error}. {_advice(*lowest(proto), str(error))}") from None
    except Exception as error:  # onnx's errors share no base class
        raise ExportError(f"opset {wanted} is not to be had: the network has {held}, and {first_line(error)}") from error
    if held_opset(proto) != wanted:
        raise ExportError(f"opset {wanted} was asked for, but the file holds {held_opset(proto)}: choose {held_opset(proto)}.")
    return _with_ir(proto, wanted)


def _advice(least: int, reason: str, why: str) -> str:
    more = "" if reason in ("", why) else f" (below it, {reason})"
    return f"The lowest possible is {least}{more}: choose {least} or more."


def _with_ir(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Give files of older opsets the version of the format that came with them: older runtimes refuse a newer one. In place."""
    if opset < DEFAULT_OPSET:
        least = onnx.helper.find_min_ir_version_for(proto.opset_import, ignore_unknown=True)
        proto.ir_version = min(proto.ir_version, max(least, _OLDEST_IR))
    return proto


def chosen_opset(opset: int | None) -> int:
    """The opset asked for, or the default.

    Raises:
        ArgumentError: if it is older than what is written, or the installed onnx does not know it.
    """
    opset = DEFAULT_OPSET if opset is None else opset
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise ArgumentError(f"`opset` must be from {OLDEST} to {newest}, got {opset}.")
    return opset


def check_int8(opset: int) -> None:
    """Refuse an opset that 8-bit weights cannot be written in.

    Raises:
        ArgumentError: if it is too old.
    """
    if opset < OLDEST_INT8:
        raise ArgumentError(
            f"int8 needs `opset` {OLDEST_INT8} or more, got {opset}: older ones have one scale for all channels. "
            f"Choose {OLDEST_INT8}, or leave int8 out."
        )


def first_line(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(error)
