"""The surgeon on ONNX files: read into a module, cut, written back, compared in ONNX Runtime."""

from slimnet.onnx_surgery.reading import OnnxNetwork, Reading, read_onnx
from slimnet.onnx_surgery.slimming import OnnxSlimResult, slim_onnx
from slimnet.onnx_surgery.writing import written

__all__ = ["OnnxNetwork", "OnnxSlimResult", "Reading", "read_onnx", "slim_onnx", "written"]
