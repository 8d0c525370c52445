"""The cost table and widths chosen from it."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from listeners import Heard
from slimnet import FSDP, SFP, Dense, OneShot, Stages, build_model, channel_groups, prune, slim, train
from slimnet.allocation import Budget, Layer, NetworkCost, Sensitivity, allocate, fit, network_layers, padded_widths, slim_aligned
from slimnet.allocation import cost as cost_module
from slimnet.allocation.choose import _Search, widths
from slimnet.allocation.cost import LOAD_RATE, as_exported, branches_of, places
from slimnet.allocation.exchange import Bound, exchange
from slimnet.commands import export_run, prune_checkpoint, write_report
from slimnet.errors import ArgumentError, FileFormatError, MeasureError, SlimnetWarning
from slimnet.export import export_onnx
from slimnet.graph import prunable
from slimnet.measure import count
from slimnet.measure.costs import CostTable, NodeTimes, Site, Target, profile_network, profile_nodes, table
from slimnet.measure.costs.grid import PROBED, Layout, Span, layout_of, points
from slimnet.measure.costs.probe import probe_model
from slimnet.measure.costs.profile import Node
from slimnet.onnx.flops import linear_reads
from slimnet.progress import Listener, Task, listening

CONV = Site("conv", size=(8, 8), kernel=(3, 3), padding=(1, 1))
BLOCKS = Layout(step=4, block=16)


def staircase(site: Site, reads: int, makes: int) -> float:
    """Microseconds of an imagined machine: blocks of 16, and three times the time for widths that are no multiple of 4."""
    suits = reads % 4 == 0 and makes % 4 == 0
    work = np.prod([*site.output_size, *site.kernel])
    if site.kind == "depthwise":
        return 1 + float(work) * makes / 1e3
    filled = -(-reads // 16) * 16 * -(-makes // 16) * 16 if suits else 3 * reads * makes
    return 1 + float(work) * filled / 1e6


@pytest.fixture
def imagined(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Site, int, int]]]:
    """Every probe takes what the imagined machine says, and so does a network; the list holds what was probed."""
    seen: list[tuple[Site, int, int]] = []

    def probe(site: Site, reads: int, makes: int) -> tuple[Site, int, int]:
        seen.append((site, reads, makes))
        return site, reads, makes

    def profile(probed: tuple[Site, int, int], target: Target, **_: object) -> NodeTimes:
        time = staircase(*probed)
        return NodeTimes((Node("layer", "Conv", (1,), time),))

    monkeypatch.setattr(table, "probe_model", probe)

    def profile_whole(*_: object, **__: object) -> tuple[NodeTimes, float]:
        """No longer than in the table, in proportion; next to nothing beside the layers."""
        return NodeTimes((Node("all", "Conv", (1,), 1.0), Node("pool", "MaxPool", (1,), 0.02))), 0.02

    monkeypatch.setattr(table, "profile_nodes", profile)
    monkeypatch.setattr(cost_module, "profile_network", profile_whole)
    yield seen


# --- the grid -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("block", "step"), [(16, 4), (8, 4), (1, 1)])
def test_layout_is_read_from_times(block: int, step: int) -> None:
    times = {width: (float(-(-width // block) * block) ** 2 if width % step == 0 else 2.0 * width**2) for width in PROBED}
    assert layout_of(times) == Layout(step, block)


def test_points_are_few_and_cover_both_regimes() -> None:
    found = points(CONV, Span(64), Span(64), BLOCKS)
    assert len(found) < 100
    for suits in [(True, True), (True, False), (False, True), (False, False)]:
        assert any((BLOCKS.suits(reads), BLOCKS.suits(makes)) == suits for reads, makes in found)
    assert {reads for reads, _ in points(CONV, Span(3, fixed=True), Span(64), BLOCKS)} == {3}
    assert all(reads == makes for reads, makes in points(Site("depthwise", (8, 8)), Span(32), Span(32), BLOCKS))


def test_a_disturbance_does_not_change_the_layout(imagined: list[tuple[Site, int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, turn = table.profile_nodes, itertools.count()

    def disturbed(*arguments: Any, **how: Any) -> NodeTimes:
        node = quiet(*arguments, **how).nodes[0]
        slower = 3 if next(turn) in (0, 8, 15, 22) else 1
        return NodeTimes((replace(node, microseconds=slower * node.microseconds),))

    monkeypatch.setattr(table, "profile_nodes", disturbed)
    assert CostTable(folder=None).layout == BLOCKS


def test_what_was_measured_on_a_busy_machine_is_measured_again(
    imagined: list[tuple[Site, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs, quiet = CostTable(folder=None), table.profile_nodes
    assert costs.layout == BLOCKS
    turn = itertools.count()

    def busy_at_first(*arguments: Any, **how: Any) -> NodeTimes:
        node = quiet(*arguments, **how).nodes[0]
        return NodeTimes((replace(node, microseconds=node.microseconds * (2 if next(turn) < 10 else 1)),))

    monkeypatch.setattr(table, "profile_nodes", busy_at_first)
    costs.measure([(CONV, Span(64), Span(64))])
    for width in (16, 48, 64):
        assert costs.microseconds(CONV, width, width) == pytest.approx(staircase(CONV, width, width), abs=1e-3)


# --- the table ------------------------------------------------------------------------------------------------------------


def test_table_predicts_what_it_did_not_measure(imagined: list[tuple[Site, int, int]], tmp_path: Path) -> None:
    costs = CostTable(folder=tmp_path)
    costs.measure([(CONV, Span(128), Span(128))])
    measured = {(reads, makes) for _, reads, makes in imagined}
    rng = np.random.default_rng(0)
    fresh = [(int(a), int(b)) for a, b in rng.integers(16, 129, (300, 2)) if (a, b) not in measured]
    errors = [abs(costs.microseconds(CONV, *point) / staircase(CONV, *point) - 1) for point in fresh]
    assert np.median(errors) < 0.05
    assert costs.microseconds(CONV, 32, 17 * 4) == pytest.approx(staircase(CONV, 32, 80), abs=1e-2)
    assert costs.microseconds(CONV, 0, 16) == 0


def test_second_time_is_read(imagined: list[tuple[Site, int, int]], tmp_path: Path) -> None:
    layers = [(CONV, Span(64), Span(64))]
    CostTable(folder=tmp_path).measure(layers)
    first = len(imagined)
    again = CostTable(folder=tmp_path)
    assert again.missing(layers) == 0
    again.measure(layers)
    assert len(imagined) == first and again.damaged == 0
    assert CostTable(Target(threads=2), folder=tmp_path).missing(layers) > 0


def test_interrupted_and_resumed(imagined: list[tuple[Site, int, int]], tmp_path: Path) -> None:
    layers = [(CONV, Span(64), Span(64))]

    class Stop(Listener):
        def advance(self, task: Task) -> None:
            if task.done == table.PORTION:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(Stop()):
        CostTable(folder=tmp_path).measure(layers)
    seen = len(imagined)
    again = CostTable(folder=tmp_path)
    total = len(points(CONV, Span(64), Span(64), BLOCKS))
    assert again.missing(layers) == total - table.PORTION
    again.measure(layers)
    rest = points(CONV, Span(64), Span(64), BLOCKS)[table.PORTION :]
    assert [probed for probed in imagined[seen:] if probed[0] == CONV] == 2 * [(CONV, *point) for point in rest]


def test_damaged_and_foreign_entries_are_measured_again(imagined: list[tuple[Site, int, int]], tmp_path: Path) -> None:
    layers = [(CONV, Span(64), Span(64))]
    costs = CostTable(folder=tmp_path)
    costs.measure(layers)
    assert costs.path is not None
    content = json.loads(costs.path.read_text())
    key = next(name for name in content["entries"] if name.endswith("16 to 16"))
    content["entries"][key]["value"] = 1e9
    costs.path.write_text(json.dumps(content))
    mended = CostTable(folder=tmp_path)
    assert mended.damaged == 1 and mended.missing(layers) == 1
    mended.measure(layers)
    assert mended.microseconds(CONV, 16, 16) == pytest.approx(staircase(CONV, 16, 16), abs=1e-3)
    content["target"]["machine"]["cpu"] = "another"
    costs.path.write_text(json.dumps(content))
    assert CostTable(folder=tmp_path).missing(layers) == len(points(CONV, Span(64), Span(64), BLOCKS))
    costs.path.write_text("{")
    assert CostTable(folder=tmp_path).damaged == 1


def test_nothing_is_kept_without_a_folder(imagined: list[tuple[Site, int, int]], tmp_path: Path) -> None:
    costs = CostTable(folder=None)
    costs.measure([(CONV, Span(16), Span(16))])
    assert costs.path is None and costs.microseconds(CONV, 16, 16) > 0
    with pytest.raises(MeasureError, match="no times were measured for a layer of this kind: linear"):
        costs.microseconds(Site("linear"), 8, 8)


def test_wrong_target() -> None:
    with pytest.raises(ArgumentError, match="`threads` must be at least 1, got 0"):
        Target(threads=0)


@pytest.mark.parametrize("site", [CONV, Site("depthwise", (8, 8), (3, 3), (2, 2), (1, 1)), Site("linear")])
def test_probes_run(site: Site) -> None:
    found = profile_nodes(probe_model(site, 16, 16), Target(), runs=2)
    assert table.layer_time(found) > 0
    nodes, beside = profile_network(probe_model(site, 16, 16), Target(), runs=2)
    assert [node.name for node in nodes.nodes] == [node.name for node in found.nodes] and beside >= 0


def test_profile_of_what_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="is not a readable ONNX file"):
        profile_nodes(b"nothing", Target())
    with pytest.raises(FileFormatError, match="does not exist"):
        profile_nodes(tmp_path / "none.onnx", Target())


# --- layers and networks --------------------------------------------------------------------------------------------------


LAYERED = [("resnet20", 32), ("vgg16_bn_cifar", 32), ("mobilenet_v2", 64), ("resnext50_32x4d", 64), ("convnext_tiny", 64)]


@pytest.mark.parametrize(("name", "side"), LAYERED)
def test_layers_tell_the_flops(name: str, side: int) -> None:
    model, x = build_model(name, num_classes=10).eval(), torch.randn(2, 3, side, side)
    groups = channel_groups(model, x)
    layers = network_layers(model, x, groups)
    dense = {}
    layer_flops = sum(count(model, x[:1]).by_module.get(layer.name, 0) for layer in layers)
    assert sum(layer.flops(dense) for layer in layers) == layer_flops
    assert sum(layer.params({}) for layer in layers) == sum(
        model.get_parameter(f"{layer.name}.weight").numel() for layer in layers
    )
    halved = {group.name: group.size // 2 for group in prunable(groups)}
    assert 0.15 < sum(layer.flops(halved) for layer in layers) / layer_flops < 0.75


def test_layers_read_what_the_exported_graph_reads(tmp_path: Path) -> None:
    features = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.AdaptiveAvgPool2d(7), torch.nn.Flatten())
    model = torch.nn.Sequential(*features, torch.nn.Linear(8 * 49, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)).eval()
    x = torch.randn(2, 3, 1, 1)
    export_onnx(model, x, tmp_path / "net.onnx")
    layers = network_layers(model, x, channel_groups(model, x))
    first, linear, last = as_exported(layers, linear_reads(tmp_path / "net.onnx"))
    assert linear.reads == 8 and linear.widths({first.made_for[0][0]: 5}) == (5, 16)
    assert [layer.flops({}) for layer in (first, linear, last)] == [layer.flops({}) for layer in layers]
    assert last == layers[2] and as_exported(layers, [8]) == layers


def test_layers_of_all_kinds() -> None:
    same = torch.nn.Conv2d(3, 16, 3, padding="same")
    twice = torch.nn.Conv2d(16, 16, 3, padding=1)
    model = torch.nn.Sequential(same, twice, torch.nn.MaxPool2d(2), twice, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    first, second = network_layers(model, torch.randn(2, 3, 8, 8), ())
    assert first.site == Site("conv", (8, 8), (3, 3), (1, 1), (1, 1)) and first.flops({}) == 27_648
    assert second.site is None and second.calls == 2 and second.flops({}) == 80 * 2304


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
    known = sum(layer.calls * costs.microseconds(layer.site, *layer.widths({})) for layer in layers if layer.site)
    nodes = (Node("all", "Conv", (1,), longer * known), Node("pool", "MaxPool", (1,), 0.05 * known))
    cost = NetworkCost(layers, costs, NodeTimes(nodes), 0.05 * known)
    generator = torch.Generator().manual_seed(0)
    return cost, {group: torch.rand(size, generator=generator) for group, size in sizes.items()}


def test_prediction_of_the_dense_network_is_what_was_profiled(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path)
    known = sum(staircase(layer.site, layer.reads, layer.makes) for layer in cost.layers if layer.site)
    assert cost.factor * known + cost.load == pytest.approx(1.1 * known, rel=1e-3)
    assert cost.dense_ms == pytest.approx(1.2 * known / 1e3, rel=1e-3)
    halved = {name: len(values) // 2 for name, values in scores.items()}
    assert cost.milliseconds(halved) < cost.dense_ms


def test_what_takes_longer_than_in_the_table_is_the_loading_of_weights_first(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path, longer=1.02)
    known = sum(staircase(layer.site, layer.reads, layer.makes) for layer in cost.layers if layer.site)
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
    costs, quiet = CostTable(folder=None), table.profile_nodes
    assert costs.layout == BLOCKS
    turn = itertools.count()

    def disturbed_now_and_then(*arguments: Any, **how: Any) -> NodeTimes:
        node = quiet(*arguments, **how).nodes[0]
        return NodeTimes((replace(node, microseconds=node.microseconds * (1.3 if next(turn) % 13 == 3 else 1)),))

    monkeypatch.setattr(table, "profile_nodes", disturbed_now_and_then)
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
    with pytest.raises(ArgumentError, match=rf"the target cannot be met: .* is left of [\d.]+; .*{hint}\.$"):
        allocate(cost, scores, Budget(speedup=1e5), BLOCKS)
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


# --- where widths are used ------------------------------------------------------------------------------------------------


def test_padding_pays_where_the_kernels_want_it(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path)
    sizes = {name: len(values) for name, values in scores.items()}
    narrow = {name: size - 3 for name, size in sizes.items()}
    wider = padded_widths(cost, narrow, sizes, BLOCKS)
    assert set(wider) == set(sizes) and all(width % 4 == 0 for width in wider.values())
    assert cost.milliseconds(wider) < 0.7 * cost.milliseconds(narrow)
    assert padded_widths(cost, sizes, sizes, BLOCKS) == {}
    suiting = {name: size - 4 for name, size in sizes.items()}
    assert padded_widths(cost, suiting, sizes, BLOCKS) == {}  # 12 of 16 take as long as 16


def test_surgery_keeps_the_widths_asked_for(imagined: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, x = build_model("resnet8", num_classes=10).eval(), torch.randn(2, 3, 16, 16)
    prune(model, x, rate=0.3)
    plain, padded = (slim_aligned(model, x, align) for align in (None, "auto"))  # type: ignore[arg-type]
    widths_of = [{group.name: len(group.kept) for group in result.plan.groups} for result in (plain, padded)]
    assert all(after >= before for before, after in zip(widths_of[0].values(), widths_of[1].values(), strict=True))
    assert all(width % 4 == 0 for name, width in widths_of[1].items() if name != "linear")
    assert torch.allclose(plain.model(x), padded.model(x), atol=1e-5)
    assert any("run faster here" in reason for group in padded.plan.groups for reason in group.reasons)


def test_prune_to_widths() -> None:
    model, x = build_model("resnet8", num_classes=10).eval(), torch.randn(2, 3, 16, 16)
    groups = {group.name: group.size for group in prunable(channel_groups(model, x))}
    first, second = list(groups)[:2]
    mask = prune(model, x, widths={first: 3, second: groups[second]})
    closed = {name: int(gone.sum()) for name, gone in mask.closed().items()}
    assert closed == {**dict.fromkeys(groups, 0), first: groups[first] - 3}
    for wrong, message in (({"none": 3}, "'none', which is no channel group"), ({first: -1}, "must be from 0 to")):
        with pytest.raises(ArgumentError, match=message):
            prune(model, x, widths=wrong)
    with pytest.raises(ArgumentError, match="either `rate` or `widths`"):
        prune(model, x)


def test_training_to_a_target(imagined: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = {"model": "resnet8", "data": "digits", "precision": "fp32", "channels_last": False, "device": "cpu", "lr": 0.05}
    method = FSDP(tau=4, finetune_epochs=1)
    run = train(out=tmp_path / "run", epochs=3, method=method, target={"flops": 0.4}, progress=False, **settings)
    widths = dict(run.method.widths)
    assert widths and all(width % 4 == 0 for width in widths.values())
    kept = {group.name: group.size - int(run.masks()[group.name].sum()) for group in run.groups}
    assert kept == {group.name: widths.get(group.name, group.size) for group in run.groups}
    x = run.example_input()
    small = slim(run.load_model(), x).model
    assert count(small, x[:1]).flops <= 0.41 * count(run.build_model(), x[:1]).flops
    assert train(out=run.path, resume=True, progress=False).config == run.config
    assert run.target is not None and run.target["target"] == {"flops": 0.4} and run.target["predicted"]["flops_left"] <= 0.4
    assert (run.target["threads"], run.target["batch"]) == (1, 1)
    assert export_run(run.path, tmp_path / "bundle").report["target"] == run.target
    with pytest.raises(ArgumentError, match="`target` needs a soft filter method"):
        train(out=tmp_path / "dense", method=Dense(), target={"flops": 0.4}, epochs=3, progress=False, **settings)
    again = train(out=run.path, resume=True, method=method, target={"flops": 0.4}, progress=False)
    assert again.method.widths == run.method.widths
    for odd, message in (({"method": FSDP(couple="none")}, "coupled streams"), ({"target": {"ms": 1e6}}, "meets the target ms")):
        with pytest.raises(ArgumentError, match=message):
            train(out=tmp_path / "no", epochs=3, progress=False, **{"target": {"flops": 0.4}, "method": method} | settings | odd)
    with pytest.raises(ArgumentError, match="`target` must be one of speedup"):
        train(out=tmp_path / "odd", target={"speed": 0.4}, epochs=3, progress=False, **settings)


def test_training_shuts_branches(imagined: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = {"model": "resnet8", "data": "digits", "train_fraction": 0.1, "batch_size": 32, "precision": "fp32",
                "channels_last": False, "device": "cpu", "progress": False}  # fmt: skip
    method, target = FSDP(tau=2, cs_every=1, finetune_epochs=1), {"flops": 0.1}
    run = train(out=tmp_path / "run", epochs=3, method=method, target=target, shut_branches=True, **settings)
    assert [name for name, width in run.method.widths if width == 0] == ["layer1.0.conv1"]
    assert [name for name, closed in run.masks().items() if bool(closed.all())] == ["layer1.0.conv1"]
    bundle = export_run(run.path, tmp_path / "bundle")  # its parity gate holds the cut network against the masked one
    plan = json.loads((bundle.path / "plan.json").read_text(encoding="utf-8"))
    assert [shut["module"] for shut in plan["shuts"]] == ["layer1.0.bn2"]
    assert bundle.report["cost"]["slim"]["flops"] <= 0.1 * bundle.report["cost"]["dense"]["flops"]
    (run.path / "model.safetensors").unlink()
    again = train(out=run.path, resume=True, shut_branches=True, progress=False)
    assert (again.config, again.result) == (run.config, run.result)
    with pytest.raises(ArgumentError, match="`shut_branches` was True"):
        train(out=run.path, resume=True, shut_branches=False, progress=False)


def test_training_from_weights_is_allocated_by_loss(imagined: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = {"model": "resnet8", "data": "digits", "train_fraction": 0.1, "batch_size": 32, "precision": "fp32",
                "channels_last": False, "device": "cpu", "progress": False, "epochs": 2}  # fmt: skip
    first = train(out=tmp_path / "first", method=Dense(), **settings)
    weights = first.path / "model.safetensors"
    settings |= {"method": OneShot(), "target": {"speedup": 1.3}, "shut_branches": True, "init": str(weights)}
    runs = {by: train(out=tmp_path / by, allocate_by=by, **settings) for by in ("auto", "energy")}
    loss = {by: (run.target or {})["predicted"].get("loss") for by, run in runs.items()}
    assert loss["energy"] is None and loss["auto"] > 0
    assert 0 in dict(runs["auto"].method.widths).values()
    with pytest.raises(ArgumentError, match="`allocate_by` must be one of auto, energy, loss"):
        train(out=tmp_path / "odd", allocate_by="luck", **settings)
    report = prune_checkpoint(
        weights,
        tmp_path / "pruned",
        model="resnet8",
        num_classes=10,
        in_channels=1,
        image_size=8,
        target={"speedup": 1.3},
        shut_branches=True,
        data="digits",
    )
    assert report["allocation"]["predicted"]["loss"] > 0
    layers = report["allocation"]["layers"]
    assert [layer["name"] for layer in layers if not layer["reads_kept"]]  # the second layers of shut branches
    write_report(runs["auto"].path)
    assert (runs["auto"].path / "report" / "plan.png").is_file() and not (first.path / "report").exists()
    measured: list[object] = []
    monkeypatch.setattr(fit, "measure_sensitivity", lambda *given, **how: measured.append(given))
    with pytest.raises(ArgumentError, match="the target cannot be met"):
        train(out=tmp_path / "far", **settings | {"target": {"speedup": 1e4}})
    assert measured == [] and not (tmp_path / "far").exists()  # it is said before minutes of measuring
    with pytest.raises(ArgumentError, match="`allocate_by` 'loss' is for a target, and needs data"):
        prune_checkpoint(
            weights, tmp_path / "no", model="resnet8", num_classes=10, in_channels=1, target={"ms": 2.0}, allocate_by="loss"
        )


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"shut_branches": True}, "`shut_branches` is for a target"),
        ({"allocate_by": "energy"}, "`allocate_by` is for a target"),
        ({"shut_branches": True, "target": {"flops": 0.4}, "method": FSDP(mask_norm=False)}, "leave `mask_norm` on"),
        ({"method": FSDP(widths=(("layer1", 0),))}, r"closes 'layer1' whole.*layer1\.0\.conv1"),
        ({"method": Stages((SFP(widths=(("layer1", 0),)), 1), (FSDP(), 1))}, "closes 'layer1' whole"),
    ],
)
def test_what_may_not_be_shut(odd: dict[str, Any], message: str, tmp_path: Path) -> None:
    settings = {"model": "resnet8", "data": "digits", "method": FSDP(), "epochs": 3, "device": "cpu"}
    with pytest.raises(ArgumentError, match=message):
        train(out=tmp_path / "no", progress=False, **settings | odd)
    assert not (tmp_path / "no").exists()


def test_prune_a_checkpoint_to_a_target(imagined: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights, out = tmp_path / "resnet8.pth", tmp_path / "out"
    torch.save(build_model("resnet8", num_classes=10).state_dict(), weights)
    with listening(Heard()) as told:
        report = prune_checkpoint(weights, out, model="resnet8", num_classes=10, in_channels=3, image_size=16,
                                  target={"params": 0.5})  # fmt: skip
    assert "measuring what layers cost on this machine" in told.finished() and all(told.finished().values())
    found = report["allocation"]
    assert found["target"] == {"params": 0.5} and found["predicted"]["params_left"] <= 0.5
    assert {g["name"]: g["size"] - g["closed"] for g in report["groups"]} == found["kept"]
    whole = sum(layer["ms"] for layer in found["layers"])
    assert 0.8 * found["predicted"]["ms"] < whole <= found["predicted"]["ms"]
    assert sum(9 * layer["reads_kept"] * layer["makes_kept"] for layer in found["layers"][:-1]) < 0.55 * sum(
        9 * layer["reads"] * layer["makes"] for layer in found["layers"][:-1]
    )
    with pytest.raises(ArgumentError, match="`shut_branches` is for a target"):
        prune_checkpoint(weights, tmp_path / "no", model="resnet8", num_classes=10, in_channels=3, image_size=16,
                         rate=0.5, shut_branches=True)  # fmt: skip
    with pytest.raises(ArgumentError, match="needs coupled streams"):
        prune_checkpoint(weights, tmp_path / "no", model="resnet8", num_classes=10, in_channels=3, image_size=16,
                         target={"params": 0.5}, couple="none")  # fmt: skip
