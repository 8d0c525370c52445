"""Methods: a criterion, a schedule and a masking rule make one frozen dataclass a file."""

from slimnet.methods.base import Method, Pruner, Statistics, get_method, method_names
from slimnet.methods.dense import Dense
from slimnet.methods.fsdp import FSDP
from slimnet.methods.soft import SoftMethod

__all__ = ["FSDP", "Dense", "Method", "Pruner", "SoftMethod", "Statistics", "get_method", "method_names"]
