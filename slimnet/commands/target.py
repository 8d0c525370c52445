"""What a network was made for, what was predicted of it, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slimnet.names import DEPLOYED

if TYPE_CHECKING:
    from slimnet.measure import LatencyReport


def against_target(target: Mapping[str, Any] | None, latency: LatencyReport, *, first: str) -> dict[str, Any] | None:
    """Target and prediction of a bundle beside the measurement, where one can be held against the other.

    Args:
        target: what the bundle's report says of it.
        latency: the measurement of the bundle.
        first: the runtime of the first two variants, dense and slim; of those in `slimnet.names.DEPLOYED`, which run no dense
            network, of the first.

    Returns:
        ``target``, ``predicted``, ``threads``, ``batch`` as recorded; ``measured``: ``speedup``, its ``interval``, ``ms``, or
        None with the ``reason``. None without a target.
    """
    if not target:
        return None
    reason = _not_comparable(target, latency, first)
    if reason is not None:
        return {**target, "measured": None, "reason": reason}
    slim = latency.variants[1]
    measured = {
        "speedup": slim.speedup,
        "interval": list(slim.interval),
        "ms": slim.median_ms,
        "ms_interval": list(slim.median_interval or ()),
    }
    return {**target, "measured": measured, "reason": None}


def _not_comparable(target: Mapping[str, Any], latency: LatencyReport, first: str) -> str | None:
    """Why the measurement says nothing about the target."""
    wanted = target.get("runtime", "onnxruntime")
    if first != wanted or latency.provider != "cpu":
        return f"it is for {'ONNX Runtime' if wanted == 'onnxruntime' else wanted} on the CPU"
    for name, value in (("threads", latency.threads), ("batch", latency.batch)):
        if target.get(name) != value:
            return f"it is for {name} {target.get(name)}, measured was {name} {value}"
    cpu = latency.environment.get("cpu")
    if target.get("cpu") not in (None, cpu):
        return f"it is for another processor, {target['cpu']}"
    if first in DEPLOYED:
        return f"a bundle holds no dense network for {first}"
    return None
