"""The same network in fewer bits: 8-bit integers and half precision, kept only where they pay. Needs no torch."""

from __future__ import annotations

from slimnet.export.precision._half import to_fp16
from slimnet.export.precision._int8 import to_int8

__all__ = ["to_fp16", "to_int8"]
