"""Half precision. The façade over onnxruntime's converter."""

from __future__ import annotations

from slimnet.errors import ExportError
from slimnet.export.precision import _graph
from slimnet.export.precision._quantise import prepare
from slimnet.onnx.opset import first_line


def to_fp16(fp32: bytes) -> bytes:
    """Convert a network to float16; inputs and outputs stay float32.

    Half the bytes, and on graphics processors and in browsers often faster. Processors mostly compute it in float32, with
    conversions between. Norms are folded into convolutions first.

    Args:
        fp32: an ONNX file.

    Returns:
        The bytes of another one, the same for the same network.

    Raises:
        FileFormatError: if ``fp32`` is not ONNX.
        ExportError: if it cannot be converted.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        proto = convert_float_to_float16(prepare(fp32), keep_io_types=True)
        ONNXModel(proto).topological_sort()
    except (AssertionError, ValueError, RuntimeError) as error:
        raise ExportError(f"the network cannot be converted to float16: {first_line(error)}") from error
    return _graph.finished(proto, like=_graph.load(fp32))
