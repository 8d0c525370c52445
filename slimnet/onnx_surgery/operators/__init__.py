"""What each ONNX operator computes, in torch. A node of an operator without a function is not followed."""

from slimnet.onnx_surgery.operators import elementwise, moving, reductions, space
from slimnet.onnx_surgery.operators.registry import FIXED, FUNCTIONS, Function, NotFollowedError, numbers

__all__ = ["FIXED", "FUNCTIONS", "Function", "NotFollowedError", "elementwise", "moving", "numbers", "reductions", "space"]
