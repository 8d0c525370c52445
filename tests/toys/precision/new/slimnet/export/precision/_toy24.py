"""24 bits: the last byte of every weight is zero, so that the file compresses better."""

from __future__ import annotations

import numpy as np

from slimnet.onnx import graph as ir


def to_24_bits(fp32: bytes) -> bytes:
    """Round every float32 constant to 16 bits of mantissa.

    Args:
        fp32: an ONNX file.
    """
    model = ir.read(fp32)
    for value in model.graph.initializers.values():
        array = ir.stored(value)
        if array is not None and array.dtype == np.float32:
            bits = np.ascontiguousarray(array).view(np.uint32)
            ir.set_constant(value, ((bits + np.uint32(0x80)) & np.uint32(0xFFFFFF00)).view(np.float32))
    return ir.written(model)
