"""A network in an older operator set: node by node, and exactly, or not at all."""

from slimnet.onnx.lower.context import CannotLowerError
from slimnet.onnx.lower.driver import lower, lowest

__all__ = ["CannotLowerError", "lower", "lowest"]
