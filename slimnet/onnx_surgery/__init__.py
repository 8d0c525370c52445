"""The surgeon on ONNX files: read into a module, cut, written back, compared in ONNX Runtime."""

from slimnet.onnx_surgery.reading import OnnxNetwork, Reading, read_onnx
from slimnet.onnx_surgery.slimming import OnnxSlimResult, finished, read_checked, slim, slim_onnx, without_small_filters
from slimnet.onnx_surgery.writing import written

__all__ = [
    "OnnxNetwork",
    "OnnxSlimResult",
    "Reading",
    "finished",
    "read_checked",
    "read_onnx",
    "slim",
    "slim_onnx",
    "without_small_filters",
    "written",
]
