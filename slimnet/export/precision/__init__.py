"""The same network in fewer bits: 8-bit integers and half precision, kept only where they pay. Needs no torch."""

from __future__ import annotations

from slimnet.export.precision._choose import MAX_DROP, make_precisions
from slimnet.export.precision._found import Evaluated, Precision, Precisions, Trial
from slimnet.export.precision._int8 import METHODS, to_int8
from slimnet.onnx.convert import to_fp16

__all__ = [
    "MAX_DROP",
    "METHODS",
    "Evaluated",
    "Precision",
    "Precisions",
    "Trial",
    "make_precisions",
    "to_fp16",
    "to_int8",
]
