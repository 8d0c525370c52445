"""What a network costs: operations, parameters and bytes, and the time it takes on a machine.

Nothing here is imported before it is asked for: latency needs no torch, and counting needs no onnxruntime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimnet._lazy import lazy

if TYPE_CHECKING:
    from slimnet.limits import time_limit
    from slimnet.measure.cost import Cost
    from slimnet.measure.flops import count
    from slimnet.measure.latency import LatencyReport, Variant, compare_latency
    from slimnet.measure.memory import peak_memory
    from slimnet.measure.paper import LayerCost, PaperCost, paper_flops
    from slimnet.measure.timed import Setting
    from slimnet.measure.torch_sessions import TorchNetwork

__all__ = [
    "Cost",
    "LatencyReport",
    "LayerCost",
    "PaperCost",
    "Setting",
    "TorchNetwork",
    "Variant",
    "compare_latency",
    "count",
    "paper_flops",
    "peak_memory",
    "time_limit",
]

_HOME = {
    "Cost": "cost",
    "count": "flops",
    "compare_latency": "latency",
    "LatencyReport": "latency",
    "Variant": "latency",
    "peak_memory": "memory",
    "time_limit": "slimnet.limits",
    "Setting": "timed",
    "TorchNetwork": "torch_sessions",
    "LayerCost": "paper",
    "PaperCost": "paper",
    "paper_flops": "paper",
}


__getattr__ = lazy(__name__, _HOME)
