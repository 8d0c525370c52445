"""Widths for a target: the cheapest loss first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from slimnet.allocation.cost import NetworkCost
from slimnet.allocation.exchange import Bound, exchange
from slimnet.allocation.knapsack import least_loss
from slimnet.allocation.layers import Layer
from slimnet.allocation.sensitivity import Sensitivity
from slimnet.errors import ArgumentError
from slimnet.measure.costs.grid import Layout
from slimnet.settings import Budget

SPENT = 0.98
"""Of a target of FLOPs or weights, at least this much stays used when groups exchange channels for time."""
SHUT = 0.5
"""A shut branch leaves the network a shorter way: it counts as if it still had this share of the energy of its best channel."""
UNKNOWN_SHARE = 0.05
"""A target in time is refused where more of the multiply-adds than this is in layers that the cost table does not know."""
RUNGS = 3
"""So many narrower widths of a group are tried in each step: a single one may save nothing."""
TIGHTER, EXACT = 5, 1e-6
"""The solver tries so often to keep within a target, to so much of it."""
PIECES = 32
"""Where all widths suit the kernels, a group's width changes in so many steps."""


@dataclass(frozen=True)
class PlannedLayer:
    """What is planned for one layer.

    Attributes:
        name: of the module.
        reads, makes: channels now.
        reads_kept, makes_kept: channels that stay; 0 read: its branch is shut.
        dense_ms, ms: its part of the predicted time, now and then.
    """

    name: str
    reads: int
    makes: int
    reads_kept: int
    makes_kept: int
    dense_ms: float
    ms: float


@dataclass(frozen=True)
class Allocation:
    """How many channels each group keeps, and what that is predicted to cost.

    Attributes:
        kept: group name → channels.
        budget: the target.
        dense_ms, predicted_ms: milliseconds of a batch.
        flops, params: shares of the dense network's multiply-adds and weights that stay.
        energy: group name → share of its scores' squares that stays.
        loss: how far the answers move, as measured (see :class:`slimnet.criteria.ClosedLoss`), where groups were valued by it.
        layers: what is planned for each.
    """

    kept: dict[str, int]
    budget: Budget
    dense_ms: float
    predicted_ms: float
    flops: float
    params: float
    energy: dict[str, float]
    loss: float | None = None
    layers: tuple[PlannedLayer, ...] = ()

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
                "flops_left": self.flops, "params_left": self.params, **({} if self.loss is None else {"loss": self.loss}),
            },
            "kept": self.kept,
            "energy": self.energy,
            "layers": [asdict(layer) for layer in self.layers],
        }  # fmt: skip


def allocate(
    cost: NetworkCost,
    scores: Mapping[str, Tensor],
    budget: Budget,
    layout: Layout,
    *,
    align: int | None = None,
    shut_branches: bool = False,
    sensitivity: Sensitivity | None = None,
    solver: Literal["both", "search"] = "both",
) -> Allocation:
    r"""Choose how many channels each group keeps, so that the target is met and least is lost.

    With the scores s of a group in falling order, keeping k of them leaves the energy

    .. math:: E(k) = \sum_{i \le k} s_i^2 \Big/ \sum_i s_i^2

    and the loss of an assignment is :math:`-\sum_g n_g \log E_g`, where n_g layers make the channels of a group (one, or all
    that add to a stream): it grows without bound as a group is emptied, so that no layer is starved. Starting from the dense
    network, the group is narrowed to one of its next friendly widths that saves most predicted time for each unit of loss, until
    the target is met; what a step of many channels has taken too much is given back. Then groups exchange channels, one narrower
    and another wider (:func:`slimnet.allocation.exchange.exchange`): within a target in time, as long as the loss falls; within a
    target of FLOPs or weights, which stays spent, as long as the predicted time falls and no more is lost than by the same rate
    in every group, which is where a second search starts from. Groups that lie side by side in a
    layer (concatenated, or a stream and the channels that a later stage adds) may be narrowed together, so that their sum stays
    friendly.

    With a ``sensitivity`` the loss of an assignment is instead the sum of the rises that were measured, and what the search finds
    gives way to the solution of the knapsack (:func:`slimnet.allocation.knapsack.least_loss`) where that loses less.

    Args:
        cost: of the network on the target machine.
        scores: group name → (size,) scores, at least 0; the highest stay.
        budget: the target.
        layout: how the machine's kernels take channels.
        align: the widths to choose from: multiples of this. None: those that fill the kernels of the machine.
        shut_branches: let the inner groups of residual branches (:attr:`NetworkCost.branches`) go to 0 channels, which shuts the
            branch; its loss is that of a group left with half the energy of its best channel, where it is not measured.
        sensitivity: how the loss rises with each group narrowed, as it was measured; None: by the scores' energy.
        solver: ``"search"`` leaves the knapsack out, to compare.

    Raises:
        ArgumentError: if the target cannot be met (the message says where shut branches are left to try), or is a time and the
            network has layers that the cost table does not know.
    """
    if solver not in ("both", "search"):
        raise ArgumentError(f"`solver` must be 'both' or 'search', got {solver!r}.")
    share, stranger = cost.unknown
    if budget.name in ("speedup", "ms") and share > UNKNOWN_SHARE:
        raise ArgumentError(
            f"{share:.0%} of the multiply-adds are in layers whose time cannot be predicted yet, such as {stranger}: give a "
            "target of `flops` or `params` instead."
        )
    search = _Search(cost, scores, budget, layout, align, shut_branches=shut_branches, sensitivity=sensitivity)
    kept = search.run()
    if sensitivity is not None and solver == "both":
        kept = min((kept, search.knapsack(kept)), key=search.losses)
    dense = {name: len(values) for name, values in scores.items()}
    return Allocation(
        kept=kept,
        budget=budget,
        dense_ms=cost.dense_ms,
        predicted_ms=cost.milliseconds(kept),
        flops=cost.flops(kept) / cost.flops(dense),
        params=cost.params(kept) / cost.params(dense),
        energy={name: search.energy(name, width) if width else 0.0 for name, width in kept.items()},
        loss=sensitivity.base + sensitivity.total(kept) if sensitivity is not None else None,
        layers=tuple(_planned(cost, layer, kept) for layer in cost.layers),
    )


def _planned(cost: NetworkCost, layer: Layer, kept: Mapping[str, int]) -> PlannedLayer:
    times = cost.layer_milliseconds(layer, {}), cost.layer_milliseconds(layer, kept)
    return PlannedLayer(layer.name, layer.reads, layer.makes, *layer.widths(kept), *times)


def width_ladders(
    cost: NetworkCost, scores: Mapping[str, Tensor], layout: Layout, align: int | None = None, *, shut_branches: bool = False
) -> dict[str, list[int]]:
    """Group name → the widths to choose from, falling (see :func:`widths`); 0 too where that may shut a branch.

    Args:
        cost, scores, layout, align, shut_branches: see :func:`allocate`.
    """
    shut = cost.branches if shut_branches else ()
    return {name: widths(len(values), layout, align) + [0] * (name in shut) for name, values in scores.items()}


def widths(size: int, layout: Layout, align: int | None = None) -> list[int]:
    """Friendly widths of a group, falling: its own first.

    Args:
        size: channels now.
        layout: how the kernels take channels.
        align: multiples of this instead.
    """
    step = align or (layout.block if layout.block > 1 else max(1, size // PIECES))
    friendly = range(size - size % step if size % step else size - step, 0, -step)
    below = min(step, size) - 1
    small = range(below - below % layout.step, 0, -layout.step) if align is None and layout.step < step else ()
    return [size, *friendly, *small] if size > 1 else [size]


_Used = Callable[[Mapping[str, int]], float]
_UsedBy = Callable[[Layer, Mapping[str, int]], float]


def _measure_of(cost: NetworkCost, budget: Budget) -> tuple[_Used, _UsedBy, float]:
    """What the target limits, a layer's part of it, and the limit."""
    if budget.flops is not None:
        return cost.flops, Layer.flops, budget.flops * cost.flops({})
    if budget.params is not None:
        return cost.params, Layer.params, budget.params * cost.params({})
    limit = budget.ms if budget.ms is not None else cost.dense_ms / (budget.speedup or 1.0)
    return cost.milliseconds, cost.layer_milliseconds, limit


class _Search:
    """The greedy search for widths."""

    def __init__(
        self,
        cost: NetworkCost,
        scores: Mapping[str, Tensor],
        budget: Budget,
        layout: Layout,
        align: int | None,
        *,
        shut_branches: bool = False,
        sensitivity: Sensitivity | None = None,
    ) -> None:
        self.cost, self.layout, self.sensitivity = cost, layout, sensitivity
        self.used, self.used_by, self.limit = _measure_of(cost, budget)
        self.timed = budget.name in ("speedup", "ms")
        self.unit = "ms" if self.timed else {"flops": "multiply-adds", "params": "weights"}[budget.name]
        self.sizes = {name: len(values) for name, values in scores.items()}
        self.ladders = width_ladders(cost, scores, layout, align, shut_branches=shut_branches)
        self.untried = [] if shut_branches else [name for name in cost.branches if name in self.ladders]
        self.step = align or layout.block
        counts = Counter(group for layer in cost.layers for group, *_ in layer.made_for)
        self.makers = {name: max(counts[name], 1) for name in scores}
        self._energy = {name: _energies(values) for name, values in scores.items()}
        sides = {(parts, size) for layer in cost.layers for parts, size in layer.sides if len(parts) > 1}
        self._joined = sorted(side for side in sides if all(group in scores for group, *_ in side[0]))

    def energy(self, name: str, width: int) -> float:
        """The share of the squared scores that a width leaves."""
        return self._energy[name][width - 1] if width else SHUT * self._energy[name][0]

    def loss(self, name: str, width: int) -> float:
        """The measured rise, or −log of the energy that a width leaves, for each layer that makes the channels."""
        if self.sensitivity is not None:
            return self.sensitivity.rise(name, width)
        return -self.makers[name] * math.log(self.energy(name, width))

    def knapsack(self, around: dict[str, int]) -> dict[str, int]:
        """What the solver finds; ``around`` where that is nothing within the target.

        Layers that touch more than two groups are linear to the solver: where it spends too much for that, it is given less.
        """
        fixed = self.used({}) - sum(self.used_by(layer, {}) for layer in self.cost.layers)
        limit = self.limit - fixed
        for _ in range(TIGHTER):
            found = least_loss(self.cost.layers, self.ladders, self.loss, self.used_by, limit, around)
            if found is None:
                break
            if self.used(found) <= self.limit * (1 + EXACT):
                return found
            limit -= self.used(found) - self.limit
        return around

    def run(self) -> dict[str, int]:
        """Narrow until the target is met; then widen again where it allows that, the greatest loss first.

        Raises:
            ArgumentError: if no step brings it nearer.
        """
        kept = dict(self.sizes)
        while self.used(kept) > self.limit:
            kept = self._narrowed(kept)
        while (wider := self._widened(kept)) is not None:
            kept = wider
        if self.timed:
            return exchange(kept, self.ladders, self.losses, [Bound(self.used, 0.0, self.limit)])
        uniform = self._uniform()
        most = max(self.losses(kept), self.losses(uniform))
        return min((self._faster(start, most) for start in (kept, uniform)), key=self.cost.milliseconds)

    def _faster(self, start: dict[str, int], most: float) -> dict[str, int]:
        """By exchange, what takes less time, spends the target as well, and loses no more than ``most``."""
        spent = Bound(self.used, min(SPENT * self.limit, self.used(start)), self.limit)
        return exchange(start, self.ladders, self.cost.milliseconds, [spent, Bound(self.losses, 0.0, most)])

    def losses(self, kept: Mapping[str, int]) -> float:
        """The loss of an assignment."""
        return sum(self.loss(name, width) for name, width in kept.items())

    def _uniform(self) -> dict[str, int]:
        """The widths of the least rate, the same in every group, that meets the target."""
        low, high = 0.0, 1.0
        while high - low > 1e-3:
            rate = (low + high) / 2
            low, high = (low, rate) if self.used(self._at(rate)) <= self.limit else (rate, high)
        return self._at(high)

    def _at(self, rate: float) -> dict[str, int]:
        return {name: max(1, size - int(rate * size)) for name, size in self.sizes.items()}

    def _widened(self, kept: dict[str, int]) -> dict[str, int] | None:
        """One group a rung or more wider, within the target: what takes most of the loss back; None where nothing does."""
        trials = [
            {**kept, name: width}
            for name, ladder in self.ladders.items()
            for width in [rung for rung in reversed(ladder) if rung > kept[name]][:RUNGS]
        ]
        allowed = [trial for trial in trials if self._lost(kept, trial) < 0 and self.used(trial) <= self.limit]
        return min(allowed, key=lambda trial: self._lost(kept, trial), default=None)

    def _narrowed(self, kept: dict[str, int]) -> dict[str, int]:
        """The step that saves most for what it loses.

        What is saved is time. Where the target is not a time and no step saves any, it is what the target limits.
        """
        now = self.used(kept)
        trials = [trial for trial in self._trials(kept) if self.used(trial) < now]
        for measure in (self.cost.milliseconds, self.used):
            before = measure(kept)
            gains = [(before - measure(trial)) / max(self._lost(kept, trial), 1e-9) for trial in trials]
            if gains and max(gains) > 0:
                return trials[gains.index(max(gains))]
        hint = (
            "; letting residual branches go as a whole leaves less: --shut-branches (`shut_branches=True`)"
            if self.untried
            else ""
        )
        dense = self.used({})
        left = f"{now:.4g} is left of {dense:.4g} {self.unit}, {dense / now:.3g} times less"
        raise ArgumentError(f"the target cannot be met: at the narrowest, {left}{hint}.")

    def _lost(self, kept: Mapping[str, int], trial: Mapping[str, int]) -> float:
        return sum(self.loss(name, width) - self.loss(name, kept[name]) for name, width in trial.items() if width != kept[name])

    def _trials(self, kept: dict[str, int]) -> Iterator[dict[str, int]]:
        """One group narrower by a rung or more, alone, and with the groups that lie beside it in some layer."""
        for name, ladder in self.ladders.items():
            for width in [rung for rung in ladder if rung < kept[name]][:RUNGS]:
                trial = {**kept, name: width}
                yield trial
                joined = self._rounded(trial, name)
                if joined != trial:
                    yield joined

    def _rounded(self, trial: dict[str, int], moved: str) -> dict[str, int]:
        """The same with neighbours of ``moved`` so much narrower that together they fill the kernels again."""
        trial = dict(trial)
        for parts, size in self._joined:
            names = [group for group, *_ in parts if group != moved]
            if len(names) == len(parts):
                continue
            total = size - sum((whole - trial[group]) * entries for group, whole, entries in parts)
            surplus = total % self.step if total > self.step else total % self.layout.step
            most = max(names, key=lambda group: trial[group])
            entries = next(entries for group, _, entries in parts if group == most)
            if surplus and surplus % entries == 0 and trial[most] > surplus // entries:
                trial[most] -= surplus // entries
        return trial


def _energies(scores: Tensor) -> list[float]:
    """The share of the squared scores that the best 1, 2, … channels hold; equal shares where nothing tells them apart."""
    squares = scores.detach().double().cpu().clamp(min=0).square().sort(descending=True).values
    if float(squares.sum()) <= 0:
        squares = torch.ones_like(squares)
    return (torch.cumsum(squares, 0) / squares.sum()).clamp_min(1e-12).tolist()
