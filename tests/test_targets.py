"""Widths for a target: what is chosen, and what it is predicted to take."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imagined_costs import BLOCKS, CONV, staircase
from slimnet import build_model, channel_groups, prune, slim
from slimnet.allocation import Budget, Layer, NetworkCost, Sensitivity, allocate, network_layers
from slimnet.allocation.choose import _Search, widths
from slimnet.allocation.cost import LOAD_RATE, branches_of, places
from slimnet.allocation.exchange import Bound, exchange
from slimnet.errors import ArgumentError, SlimnetWarning
from slimnet.graph import prunable
from slimnet.measure import count
from slimnet.measure.costs import CostTable, NodeTimes, Site, timer
from slimnet.measure.costs.grid import Layout, Span
from slimnet.measure.costs.profile import Node


@functools.cache
def parts_of(name: str, side: int) -> tuple[tuple[Layer, ...], dict[str, int]]:
    model, x = build_model(name, num_classes=10).eval(), torch.randn(2, 3, side, side)
    groups = channel_groups(model, x)
    return network_layers(model, x, groups), {group.name: group.size for group in prunable(groups)}


def network(
    tmp_path: Path, name: str = "resnet20", side: int = 32, longer: float = 1.1
) -> tuple[NetworkCost, dict[str, torch.Tensor]]:
    """As predicted for a machine where its layers take ``longer`` than in the table."""
    layers, sizes = parts_of(name, side)
    costs = CostTable(folder=tmp_path)
    costs.measure(places(layers))
    known = sum(costs.microseconds(site, *layer.widths({})) for layer in layers for site in layer.sites)
    nodes = (Node("all", "Conv", (1,), longer * known), Node("pool", "MaxPool", (1,), 0.05 * known))
    cost = NetworkCost(layers, costs, NodeTimes(nodes), 0.05 * known)
    generator = torch.Generator().manual_seed(0)
    return cost, {group: torch.rand(size, generator=generator) for group, size in sizes.items()}


def test_prediction_of_the_dense_network_is_what_was_profiled(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path)
    known = sum(staircase(site, layer.reads, layer.makes) for layer in cost.layers for site in layer.sites)
    assert cost.factor * known + cost.load == pytest.approx(1.1 * known, rel=1e-3)
    assert cost.dense_ms == pytest.approx(1.2 * known / 1e3, rel=1e-3)
    halved = {name: len(values) // 2 for name, values in scores.items()}
    assert cost.milliseconds(halved) < cost.dense_ms


def test_what_takes_longer_than_in_the_table_is_the_loading_of_weights_first(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path, longer=1.02)
    known = sum(staircase(site, layer.reads, layer.makes) for layer in cost.layers for site in layer.sites)
    assert (cost.factor, cost.load) == (pytest.approx(1), pytest.approx(0.02 * known, rel=1e-2))
    none = dict.fromkeys(scores, 0)
    assert cost.milliseconds(none) < 0.4 * cost.dense_ms
    slower, _ = network(tmp_path, longer=30)
    most = 4 * sum(layer.weights for layer in slower.layers) / LOAD_RATE
    assert slower.load == pytest.approx(most) and slower.factor > 1.5
    faster, _ = network(tmp_path, longer=0.9)
    assert (faster.factor, faster.load) == (pytest.approx(0.9), 0)


def test_one_time_that_was_disturbed_is_measured_again(
    imagined: list[tuple[Site, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs, quiet = CostTable(folder=None), timer.profile_nodes
    assert costs.layout == BLOCKS
    turn = itertools.count()

    def disturbed_now_and_then(*arguments: Any, **how: Any) -> NodeTimes:
        node = quiet(*arguments, **how).nodes[0]
        return NodeTimes((replace(node, microseconds=node.microseconds * (1.3 if next(turn) % 13 == 3 else 1)),))

    monkeypatch.setattr(timer, "profile_nodes", disturbed_now_and_then)
    costs.measure([(CONV, Span(64), Span(64))])
    for width in (15, 16, 48, 63, 64):
        assert costs.microseconds(CONV, width, width) == pytest.approx(staircase(CONV, width, width), abs=1e-3)


TARGETS = [Budget(speedup=1.4), Budget(flops=0.4), Budget(params=0.3), Budget(ms=0.05)]


@pytest.mark.parametrize("budget", TARGETS, ids=lambda budget: budget.name)
def test_targets_are_met_with_friendly_widths(budget: Budget, imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path)
    assert budget.factor(cost.dense_ms) > 1
    found = allocate(cost, scores, budget, BLOCKS)
    used = {"speedup": found.predicted_speedup, "flops": found.flops, "params": found.params, "ms": found.predicted_ms}
    value = used[budget.name]
    assert value >= budget.value if budget.name == "speedup" else value <= budget.value
    assert all(kept % 16 == 0 or (kept < 16 and kept % 4 == 0) for kept in found.kept.values())
    assert set(found.kept) == set(scores) and min(found.energy.values()) > 0
    assert found.as_dict()["target"] == {budget.name: budget.value}


def test_worthless_filters_go_first(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path, "vgg9_face", 16)
    empty = list(scores)[5]
    flat = {name: torch.ones_like(values) for name, values in scores.items()}
    flat[empty][8:] = 0
    found = allocate(cost, flat, Budget(speedup=1.1), BLOCKS)
    assert [name for name, width in found.kept.items() if width < len(scores[name])] == [empty]
    assert found.energy[empty] == pytest.approx(1)


def test_a_stream_counts_for_every_layer_that_makes_it(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path, longer=1)
    flat = {name: torch.ones_like(values) for name, values in scores.items()}
    found = allocate(cost, flat, Budget(flops=0.7), BLOCKS)
    streams = {group for layer in cost.layers for group, *_ in layer.made_for if layer.name.endswith("conv2")}
    shares = {name: kept / len(flat[name]) for name, kept in found.kept.items()}
    inner = [share for name, share in shares.items() if name not in streams]
    assert min(shares[name] for name in streams) >= sum(inner) / len(inner)


def test_no_layer_is_starved(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path)
    found = allocate(cost, {name: torch.ones_like(v) for name, v in scores.items()}, Budget(flops=0.3), BLOCKS)
    assert min(found.kept.values()) >= 4
    assert min(found.energy.values()) > 0.2


def test_a_time_for_layers_that_cannot_be_timed(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path, "resnext50_32x4d", 64)
    with pytest.raises(ArgumentError, match=r"time cannot be predicted yet, such as layer1\.0\.conv2"):
        allocate(cost, scores, Budget(speedup=2), BLOCKS)
    assert allocate(cost, scores, Budget(flops=0.8), BLOCKS).flops <= 0.8


def test_a_folder_that_cannot_be_written(imagined: object, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    costs = CostTable(folder=tmp_path / "file" / "below")
    with pytest.warns(SlimnetWarning, match=r"measured times are not kept: .* cannot be written \(Not a directory\)"):
        costs.measure([(CONV, Span(32), Span(32))])
    assert costs.microseconds(CONV, 16, 16) > 0 and costs.path is None


def test_a_table_serves_a_wider_network_too(imagined: object, tmp_path: Path) -> None:
    costs = CostTable(folder=tmp_path)
    for size in (60, 100, 40):
        costs.measure([(CONV, Span(size), Span(size))])
        assert costs.microseconds(CONV, 20, 36) == pytest.approx(staircase(CONV, 32, 48), rel=0.1)
    assert costs.microseconds(CONV, 20, 90) > 0


def test_a_target_out_of_reach(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path)
    hint = r"--shut-branches \(`shut_branches=True`\)"
    for budget, unit in ((Budget(speedup=1e5), "ms"), (Budget(flops=1e-6), "multiply-adds"), (Budget(params=1e-6), "weights")):
        left = rf".* is left of [\d.e+]+ {unit}, [\d.]+ times less; .*{hint}\.$"
        with pytest.raises(ArgumentError, match=f"the target cannot be met: {left}"):
            allocate(cost, scores, budget, BLOCKS)
    streams = {name: values for name, values in scores.items() if name not in cost.branches}
    for allowed, left in ((True, scores), (False, streams)):  # nothing more to try, no branch among the groups
        with pytest.raises(ArgumentError, match=r"the target cannot be met: [^;]*\.$"):
            allocate(cost, left, Budget(speedup=1e5), BLOCKS, shut_branches=allowed)


WRONG: list[tuple[Mapping[str, float], str]] = [
    ({}, "exactly one of speedup, ms, flops, params, got none"),
    ({"speedup": 2, "ms": 1}, "got speedup and ms"),
    ({"speedup": 1}, "`speedup` must be above 1"),
    ({"ms": -1}, "`ms` must be a positive number"),
    ({"flops": 1.5}, r"`flops` must be in \(0, 1\)"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_wrong_budgets(values: Mapping[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Budget(**values)


def test_exchange_finds_what_trying_all_finds() -> None:
    ladders = {"a": [64, 48, 32, 16], "b": [32, 16, 8], "c": [48, 32, 16]}
    price, worth = {"a": 1.0, "b": 2.5, "c": 1.7}, {"a": 1.0, "b": 4.0, "c": 1.5}

    def cost(kept: Mapping[str, int]) -> float:
        return sum(price[name] * width for name, width in kept.items()) + kept["a"] * kept["b"] / 64

    def lost(kept: Mapping[str, int]) -> float:
        return -sum(worth[name] * np.log(width) for name, width in kept.items())

    bound = Bound(cost, 0.0, 140.0)
    start = {"a": 16, "b": 8, "c": 16}
    found = exchange(start, ladders, lost, [bound])
    everything = [dict(zip(ladders, chosen, strict=True)) for chosen in itertools.product(*ladders.values())]
    assert found == min((kept for kept in everything if bound.holds(kept)), key=lost)
    assert exchange(found, ladders, lost, [bound]) == found
    assert exchange(start, {name: [width] for name, width in start.items()}, lost, [bound]) == start


def test_a_target_of_flops_is_spent_and_takes_the_least_time(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path)
    found = allocate(cost, scores, Budget(flops=0.4), BLOCKS)
    assert 0.9 * 0.4 < found.flops <= 0.4
    sizes = {name: len(values) for name, values in scores.items()}
    at_rates = ({name: max(1, size - int(rate * size)) for name, size in sizes.items()} for rate in np.arange(0, 1, 0.005))
    ordinary = next(kept for kept in at_rates if cost.flops(kept) <= 0.4 * cost.flops({}))
    assert found.predicted_ms < 0.9 * cost.milliseconds(ordinary)
    friendly = {name: size // 2 for name, size in sizes.items()}
    again = allocate(cost, scores, Budget(flops=cost.flops(friendly) / cost.flops({})), BLOCKS)
    assert again.predicted_ms <= cost.milliseconds(friendly)


def test_branches_are_shut_where_that_is_allowed(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path)
    assert cost.branches == tuple(
        f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1, 2) if stage == 1 or block
    )
    budget = Budget(flops=0.2)
    narrow, shut = (allocate(cost, scores, budget, BLOCKS, shut_branches=allowed) for allowed in (False, True))
    assert min(narrow.kept.values()) > 0 and {name for name, width in shut.kept.items() if width == 0} <= set(cost.branches)
    assert shut.predicted_ms < narrow.predicted_ms
    assert {name for name, share in shut.energy.items() if share == 0} == {
        name for name, width in shut.kept.items() if width == 0
    }


def measured(scores: Mapping[str, torch.Tensor], free: str) -> Sensitivity:
    """Every group loses in proportion to what it gives up, one nothing."""
    ladders = {name: range(0 if "conv1" in name else 1, len(values) + 1) for name, values in scores.items()}
    rises = {
        name: [(width, 0.0 if name == free else len(scores[name]) - width) for width in ladder]
        for name, ladder in ladders.items()
    }
    return Sensitivity(0.0, {}, rises)


@pytest.mark.parametrize("budget", TARGETS, ids=lambda budget: budget.name)
def test_measured_losses_choose_the_widths(budget: Budget, imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path)
    free = "layer3.1.conv1"
    loss = measured(scores, free)
    found = allocate(cost, scores, budget, BLOCKS, shut_branches=True, sensitivity=loss)
    assert found.kept[free] == 0
    assert found.loss == pytest.approx(sum(len(scores[name]) - kept for name, kept in found.kept.items() if name != free))
    used = {"speedup": found.predicted_speedup, "flops": found.flops, "params": found.params, "ms": found.predicted_ms}
    value = used[budget.name]
    assert value >= budget.value * (1 - 1e-6) if budget.name == "speedup" else value <= budget.value * (1 + 1e-6)
    blind = allocate(cost, scores, budget, BLOCKS, shut_branches=True)
    assert found.loss < loss.total(blind.kept) and blind.loss is None
    search = _Search(cost, scores, budget, BLOCKS, None, shut_branches=True, sensitivity=loss)
    with pytest.raises(ArgumentError, match="`solver` must be 'both' or 'search', got 'luck'"):
        allocate(cost, scores, budget, BLOCKS, sensitivity=loss, solver="luck")
    assert found.loss <= min(search.losses(search.run()), search.losses(search.knapsack(found.kept))) + 1e-9


def test_a_shut_branch_costs_nothing(imagined: object, tmp_path: Path) -> None:
    cost, _ = network(tmp_path)
    inside = [layer for layer in cost.layers if layer.name.startswith("layer3.1.")]
    assert len(inside) == 2 and sum(cost.layer_milliseconds(layer, {"layer3.1.conv1": 0}) for layer in inside) == 0
    saved = cost.dense_ms - cost.milliseconds({"layer3.1.conv1": 0})
    assert saved == pytest.approx(sum(cost.layer_milliseconds(layer, {}) for layer in inside))


def test_a_shut_branch_is_cut_away() -> None:
    torch.manual_seed(0)
    model, x = build_model("resnet20", num_classes=10).eval(), torch.randn(2, 3, 16, 16)
    prune(model, x, widths={"layer1.1.conv1": 0, "layer3.2.conv1": 0})
    small = slim(model, x).model
    left = {name for name, module in small.named_modules() if isinstance(module, torch.nn.Conv2d)}
    assert not left & {"layer1.1.conv2", "layer3.2.conv2"} and "layer1.2.conv2" in left
    assert count(small, x[:1]).flops < 0.8 * count(model, x[:1]).flops
    inner = build_model("mobilenet_v2", num_classes=10).eval()
    layers = network_layers(inner, torch.randn(2, 3, 32, 32), channel_groups(inner, torch.randn(2, 3, 32, 32)))
    first = [layer.name for layer in layers if layer.name.startswith("features.2.")]
    assert first and not set(branches_of(layers)) & {
        group for layer in layers if layer.name in first for group, *_ in layer.made_for
    }


def test_widths_to_choose_from() -> None:
    assert widths(64, BLOCKS) == [64, 48, 32, 16, 12, 8, 4]
    assert widths(50, BLOCKS) == [50, 48, 32, 16, 12, 8, 4]
    assert widths(10, BLOCKS) == [10, 8, 4] and widths(6, BLOCKS) == [6, 4]
    assert widths(10, Layout()) == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert widths(64, Layout(), align=24) == [64, 48, 24]
    assert widths(1, BLOCKS) == [1]
