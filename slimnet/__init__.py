"""slimnet: make a CNN smaller and really faster.

Train with soft masks, cut the zeroed filters out, prove that nothing changed, ship a smaller, faster ONNX::

    run = slimnet.train(model="resnet20", method=slimnet.FSDP(), out="runs/digits")
    result = slimnet.slim(run.load_model(), run.example_input())

Nothing heavy is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slimnet import schedules
    from slimnet.attached import Attached, attach
    from slimnet.commands import export_run, load_slim
    from slimnet.errors import SlimnetError
    from slimnet.export import export_onnx
    from slimnet.graph import channel_groups
    from slimnet.masks import SoftMask
    from slimnet.measure import compare_latency, count
    from slimnet.methods import ASFP, ASRFP, DSD, FPGM, FSDP, SFP, SRFP, Dense, NetworkSlimming, OneShot, Stages, StructuredDSD
    from slimnet.methods.closing import prune
    from slimnet.models import build_model
    from slimnet.onnx_surgery import slim
    from slimnet.settings import Budget
    from slimnet.surgery import Plan
    from slimnet.training import Run, evaluate, train

__version__ = "0.1.0"

_HOME = {
    "ASFP": "slimnet.methods",
    "ASRFP": "slimnet.methods",
    "Attached": "slimnet.attached",
    "Budget": "slimnet.settings",
    "DSD": "slimnet.methods",
    "Dense": "slimnet.methods",
    "FPGM": "slimnet.methods",
    "FSDP": "slimnet.methods",
    "NetworkSlimming": "slimnet.methods",
    "OneShot": "slimnet.methods",
    "Plan": "slimnet.surgery",
    "Run": "slimnet.training",
    "SFP": "slimnet.methods",
    "SRFP": "slimnet.methods",
    "SlimnetError": "slimnet.errors",
    "SoftMask": "slimnet.masks",
    "Stages": "slimnet.methods",
    "StructuredDSD": "slimnet.methods",
    "attach": "slimnet.attached",
    "build_model": "slimnet.models",
    "channel_groups": "slimnet.graph",
    "compare_latency": "slimnet.measure",
    "count": "slimnet.measure",
    "evaluate": "slimnet.training",
    "export_onnx": "slimnet.export",
    "export_run": "slimnet.commands",
    "load_slim": "slimnet.commands",
    "prune": "slimnet.methods.closing",
    "schedules": "slimnet",
    "slim": "slimnet.onnx_surgery",
    "train": "slimnet.training",
}

__all__ = [
    "ASFP",
    "ASRFP",
    "DSD",
    "FPGM",
    "FSDP",
    "SFP",
    "SRFP",
    "Attached",
    "Budget",
    "Dense",
    "NetworkSlimming",
    "OneShot",
    "Plan",
    "Run",
    "SlimnetError",
    "SoftMask",
    "Stages",
    "StructuredDSD",
    "__version__",
    "attach",
    "build_model",
    "channel_groups",
    "compare_latency",
    "count",
    "evaluate",
    "export_onnx",
    "export_run",
    "load_slim",
    "prune",
    "schedules",
    "slim",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'slimnet' has no attribute {name!r}")
    if name == "schedules":
        return import_module("slimnet.schedules")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
