"""Widths for a target: the cheapest loss first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slimnet.allocation.budget import Budget
from slimnet.allocation.cost import NetworkCost
from slimnet.errors import ArgumentError
from slimnet.measure.costs.grid import Layout

PIECES = 32
"""Where all widths suit the kernels, a group's width changes in so many steps."""


@dataclass(frozen=True)
class Allocation:
    """How many channels each group keeps, and what that is predicted to cost.

    Attributes:
        kept: group name → channels.
        budget: the target.
        dense_ms, predicted_ms: milliseconds of a batch.
        flops, params: shares of the dense network's multiply-adds and weights that stay.
        energy: group name → share of its scores' squares that stays.
    """

    kept: dict[str, int]
    budget: Budget
    dense_ms: float
    predicted_ms: float
    flops: float
    params: float
    energy: dict[str, float]

    @property
    def predicted_speedup(self) -> float:
        """Dense ÷ predicted time."""
        return self.dense_ms / self.predicted_ms

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "target": self.budget.as_dict(),
            "predicted": {
                "ms": self.predicted_ms, "dense_ms": self.dense_ms, "speedup": self.predicted_speedup,
                "flops_left": self.flops, "params_left": self.params,
            },
            "kept": self.kept,
            "energy": self.energy,
        }  # fmt: skip


def allocate(
    cost: NetworkCost,
    scores: Mapping[str, Tensor],
    budget: Budget,
    layout: Layout,
    *,
    align: int | None = None,
) -> Allocation:
    r"""Choose how many channels each group keeps, so that the target is met and least is lost.

    With the scores s of a group in falling order, keeping k of them leaves the energy

    .. math:: E(k) = \sum_{i \le k} s_i^2 \Big/ \sum_i s_i^2

    and the loss of an assignment is :math:`-\sum_g n_g \log E_g`, where n_g layers make the channels of a group (one, or all
    that add to a stream): it grows without bound as a group is emptied, so that no layer is starved. Starting from the dense
    network, the group is narrowed to its next friendly width that saves most predicted time for each unit of loss, until the
    target is met.

    Args:
        cost: of the network on the target machine.
        scores: group name → (size,) scores, at least 0; the highest stay.
        budget: the target.
        layout: how the machine's kernels take channels.
        align: the widths to choose from: multiples of this. None: those that fill the kernels of the machine.

    Raises:
        ArgumentError: if the target cannot be met.
    """
    ladders = {name: widths(len(values), layout, align) for name, values in scores.items()}
    makers = Counter(group for layer in cost.layers for group, *_ in layer.made_for)
    losses = {name: _losses(values, ladders[name], max(makers[name], 1)) for name, values in scores.items()}
    kept = {name: len(values) for name, values in scores.items()}
    used, limit = _measure_of(cost, budget)
    while used(kept) > limit:
        kept = _narrowed(kept, ladders, losses, cost, used)
    dense = {name: len(values) for name, values in scores.items()}
    return Allocation(
        kept=kept,
        budget=budget,
        dense_ms=cost.dense_ms,
        predicted_ms=cost.milliseconds(kept),
        flops=cost.flops(kept) / cost.flops(dense),
        params=cost.params(kept) / cost.params(dense),
        energy={name: math.exp(-losses[name][width] / max(makers[name], 1)) for name, width in kept.items()},
    )


def widths(size: int, layout: Layout, align: int | None = None) -> list[int]:
    """Friendly widths of a group, falling: its own first.

    Args:
        size: channels now.
        layout: how the kernels take channels.
        align: multiples of this instead.
    """
    step = align or (layout.block if layout.block > 1 else max(1, size // PIECES))
    friendly = range(size - size % step if size % step else size - step, 0, -step)
    small = range(min(step, size) - layout.step, 0, -layout.step) if align is None and layout.step < step else ()
    return [size, *friendly, *small] if size > 1 else [size]


def _losses(scores: Tensor, ladder: list[int], makers: int) -> dict[int, float]:
    """Width → −log of the energy that it leaves, for each layer that makes the channels."""
    squares = scores.detach().double().cpu().clamp(min=0).square().sort(descending=True).values
    total = float(squares.sum())
    running = torch.cumsum(squares, 0)
    if total <= 0:  # nothing tells the channels apart
        return {width: -makers * math.log(width / len(squares)) for width in ladder}
    return {width: -makers * math.log(max(float(running[width - 1]) / total, 1e-12)) for width in ladder}


def _measure_of(cost: NetworkCost, budget: Budget) -> tuple[Callable[[Mapping[str, int]], float], float]:
    """What the target limits, and the limit."""
    if budget.flops is not None:
        return cost.flops, budget.flops * cost.flops({})
    if budget.params is not None:
        return cost.params, budget.params * cost.params({})
    limit = budget.ms if budget.ms is not None else cost.dense_ms / (budget.speedup or 1.0)
    return cost.milliseconds, limit


def _narrowed(
    kept: dict[str, int],
    ladders: Mapping[str, list[int]],
    losses: Mapping[str, Mapping[int, float]],
    cost: NetworkCost,
    used: Callable[[Mapping[str, int]], float],
) -> dict[str, int]:
    """One group one or more steps narrower: the one that saves most for what it loses.

    What is saved is time. Where the target is not a time and no step saves any, it is what the target limits.
    """
    best, best_gain = None, 0.0
    for measure in (cost.milliseconds, used):
        before = measure(kept)
        for name, ladder in ladders.items():
            for width in ladder[ladder.index(kept[name]) + 1 :][:3]:
                after = {**kept, name: width}
                loss = losses[name][width] - losses[name][kept[name]]
                gain = (before - measure(after)) / max(loss, 1e-9)
                if gain > best_gain and used(after) < used(kept):
                    best, best_gain = after, gain
        if best is not None:
            return best
    raise ArgumentError(f"the target cannot be met: at the narrowest, {used(kept):.4g} is left of {used({}):.4g}.")
