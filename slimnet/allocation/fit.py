"""From a network and a target to widths, in one call."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from slimnet.allocation.choose import Allocation, allocate, width_ladders
from slimnet.allocation.cost import NetworkCost
from slimnet.allocation.pad import padded_widths
from slimnet.allocation.sensitivity import LossByWidth, measure_sensitivity, number_of_trials
from slimnet.criteria import ClosedLoss
from slimnet.graph import ChannelGroup, ExampleInputs, residual_branches
from slimnet.progress import each
from slimnet.runtimes.costs import cost_table
from slimnet.settings import Budget

ROUND = 1.25
"""Losses are measured anew whenever the network has become so many times as cheap, on the way to a target."""
MOST_ROUNDS = 10
MOST_SECONDS = 600.0
"""Fewer images are looked at where measuring losses would take longer."""


def fit_widths(
    model: nn.Module,
    example: ExampleInputs,
    groups: Sequence[ChannelGroup],
    scores: Mapping[str, Tensor],
    budget: Budget,
    *,
    threads: int = 1,
    batch: int = 1,
    runtime: str = "onnxruntime",
    align: int | None = None,
    shut_branches: bool = False,
    loss: ClosedLoss | None = None,
) -> Allocation:
    """Measure what layers cost on this machine, and choose how many channels each group keeps.

    With a ``loss`` groups are valued by how it rises when they are narrowed, and branches when they close, instead of by their
    scores alone. It is measured in rounds, each from where the one before has led on the way to the target, because what one
    group loses depends on what the others have lost.

    Args:
        model: the network; left as it was.
        example: images (N, C, H, W), or a tensor for each of several inputs; N at least 2.
        groups: its channel groups.
        scores: name of a group that may shrink → (size,) scores, at least 0; the highest stay.
        budget: the target.
        threads, batch: of the session that the target is for.
        runtime: that it is for: ``"onnxruntime"``, or one of `slimnet.names.DEPLOYED`.
        shut_branches: let residual branches go as a whole, see :func:`allocate`.
        align: choose from multiples of this; None: from the widths that fill the kernels of this machine.
        loss: of the network on training images, to value groups by.

    Raises:
        ArgumentError: if a number is below 1, or the target cannot be met.
        ExportError: if the network cannot be exported.
        MeasureError: if a layer does not run.
        SlimnetError: if the runtime is not installed.
    """
    table = cost_table(runtime, threads=threads, batch=batch)
    cost = NetworkCost.measure(model, example, groups, table)
    choose = partial(allocate, cost, scores, layout=table.layout, align=align, shut_branches=shut_branches)
    found = choose(budget)  # before losses are measured, which takes minutes: a target out of reach is one at once
    factor = budget.factor(cost.dense_ms)
    if loss is None or factor <= 1:
        return found
    ladders = width_ladders(cost, scores, table.layout, align, shut_branches=shut_branches)
    branches = residual_branches(model, example) if shut_branches else ()
    others = [group for group in groups if not group.is_branch]
    wanted = min(math.ceil(math.log(factor) / math.log(ROUND)), MOST_ROUNDS)
    loss, rounds = _affordable(loss, number_of_trials(ladders), wanted)
    valued = LossByWidth(loss, [*others, *branches], scores)
    kept: Mapping[str, int] | None = None
    for number in each(range(rounds), "choosing widths", rounds, "rounds"):
        sensitivity = measure_sensitivity(valued, ladders, kept)
        found = choose(budget.eased((number + 1) / rounds, cost.dense_ms), sensitivity=sensitivity)
        kept = found.kept
    return replace(found, loss=valued(found.kept))  # measured: what several rounds predict is a sum of many


def _affordable(loss: ClosedLoss, trials: int, rounds: int) -> tuple[ClosedLoss, int]:
    """The loss on so few images, and so few rounds, that the trials take :data:`MOST_SECONDS`; one batch, one round at least."""
    start = time.perf_counter()
    loss.on_first(1)([])
    batches = MOST_SECONDS / ((time.perf_counter() - start) * trials)  # of a single round
    rounds = max(1, min(rounds, int(batches)))
    return loss.on_first(min(len(loss.batches), max(1, int(batches / rounds)))), rounds


def fit_padding(
    model: nn.Module,
    example: ExampleInputs,
    groups: Sequence[ChannelGroup],
    kept: Mapping[str, int],
    *,
    threads: int = 1,
    batch: int = 1,
) -> dict[str, int]:
    """Measure what layers cost on this machine, and choose which groups keep closed channels to run faster.

    Args:
        model: the network before it is cut; left as it was.
        example: images (N, C, H, W), or a tensor for each of several inputs; N at least 2.
        groups: its channel groups.
        kept: group name → channels that must stay.
        threads, batch: of the ONNX Runtime session.

    Returns:
        Group name → width, where it is more than must stay (see :func:`padded_widths`).
    """
    table = cost_table(threads=threads, batch=batch)
    cost = NetworkCost.measure(model, example, groups, table)
    sizes = {group.name: group.size for group in groups if group.name in kept}
    return padded_widths(cost, {name: kept[name] for name in sizes}, sizes, table.layout)
