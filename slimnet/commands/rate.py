"""The rate that leaves a share of the FLOPs: found by counting live channels, and held against the network once cut."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from slimnet.allocation import LiveFlops
from slimnet.criteria import group_scores, select
from slimnet.errors import ArgumentError
from slimnet.graph import ExampleInputs, channel_groups, not_ignored, prunable
from slimnet.measure import count
from slimnet.methods.closing import prune
from slimnet.progress import Task
from slimnet.surgery import runnable_plan

if TYPE_CHECKING:
    from torch import nn

HIGHEST_RATE, RATE_STEP = 0.999, 1e-3
TRIALS = 1 + math.ceil(math.log2(HIGHEST_RATE / RATE_STEP))


def rate_for(model: nn.Module, example: ExampleInputs, flops: float, options: Mapping[str, Any]) -> tuple[float, int]:
    """The least rate (to a thousandth) at which the network, once cut, has this share of its FLOPs, by bisection; and these.

    The trials count the channels that are left. What they find is held against the network that is really cut at this rate; where
    that has other FLOPs (channels that stay, others that go along), every trial is cut, which takes long.

    Args:
        model: the network; left as it was.
        example: (N, C, H, W), or a tensor for each of several inputs.
        flops: the share, in (0, 1).
        options: of `slimnet.prune`, without a rate.

    Raises:
        ArgumentError: if even the highest rate leaves more.
    """
    dense = count(model, example).flops
    live = _live(model, example, options)
    if live is not None:
        with Task("looking for the rate", TRIALS + 1, "trials") as task:
            rate = _bisected(live, flops * dense, task)
            left = None if rate is None else _once_cut(model, example, rate, options)
            task.advance()
        if rate is not None and left is not None and round(live(rate)) == left:
            return rate, left
    with Task("looking for the rate, cutting each trial", TRIALS, "trials") as task:
        rate = _bisected(lambda rate: _once_cut(model, example, rate, options), flops * dense, task)
    if rate is None:
        least = _once_cut(model, example, HIGHEST_RATE, options) / dense
        raise ArgumentError(
            f"`flops` {flops} cannot be reached: the least share that pruning these groups leaves is {least:.4f}."
        )
    return rate, _once_cut(model, example, rate, options)


def flops_once_cut(model: nn.Module, example: ExampleInputs) -> int:
    """Multiply-adds of a network without its closed channels, for one image."""
    small = copy.deepcopy(model)
    return count(runnable_plan(small, example).apply(small), example).flops


def _bisected(left: Callable[[float], float], most: float, task: Task) -> float | None:
    """The least rate that leaves at most so much; None if even the highest does not."""
    low, high = 0.0, HIGHEST_RATE
    task.advance()
    if left(high) > most:
        return None
    while high - low > RATE_STEP:
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) > most else (low, middle)
        task.advance()
    return high


def _live(model: nn.Module, example: ExampleInputs, options: Mapping[str, Any]) -> Callable[[float], float] | None:
    """Rate → FLOPs by live channels; None where layers alone do not tell: every layer for itself, nothing to prune."""
    if options["couple"] != "stream":
        return None
    found = channel_groups(model, example, couple=options["couple"])
    groups = not_ignored(prunable(found), options["ignore"])
    scored = {"criterion": options["criterion"], "statistics": options["statistics"]}
    scores = {group.name: group_scores(model, group, **scored) for group in groups}
    live = LiveFlops(model, found, example)
    others = count(model, example).flops - live.dense  # attention and the like

    def left(rate: float) -> float:
        closed = {name: torch.zeros(len(values), dtype=torch.bool) for name, values in scores.items()}
        for name, indices in select(scores, rate, options["ranking"]).items():
            closed[name][indices] = True
        return others + live.live(closed)

    return left


def _once_cut(model: nn.Module, example: ExampleInputs, rate: float, options: Mapping[str, Any]) -> int:
    """FLOPs of the network, pruned at a rate and cut."""
    trial = copy.deepcopy(model)
    for old, new in zip(model.parameters(), trial.parameters(), strict=True):
        new.grad = old.grad
    prune(trial, example, rate=rate, **options)
    return flops_once_cut(trial, example)
