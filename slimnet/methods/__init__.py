"""Methods: a criterion, a schedule and a masking rule make one frozen dataclass a file."""

from slimnet.methods.base import Method, Pruner, Statistics, get_method, method_names
from slimnet.methods.dense import Dense
from slimnet.methods.dsd import DSD
from slimnet.methods.fpgm import FPGM
from slimnet.methods.fsdp import FSDP
from slimnet.methods.network_slimming import NetworkSlimming
from slimnet.methods.one_shot import OneShot
from slimnet.methods.sfp import ASFP, SFP
from slimnet.methods.soft import SoftMethod
from slimnet.methods.srfp import ASRFP, SRFP
from slimnet.methods.stages import Stages
from slimnet.methods.structured_dsd import StructuredDSD

__all__ = [
    "ASFP",
    "ASRFP",
    "DSD",
    "FPGM",
    "FSDP",
    "SFP",
    "SRFP",
    "Dense",
    "Method",
    "NetworkSlimming",
    "OneShot",
    "Pruner",
    "SoftMethod",
    "Stages",
    "Statistics",
    "StructuredDSD",
    "get_method",
    "method_names",
]
