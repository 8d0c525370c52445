"""Costs of layers: the grid of widths, the table of times, what a network's layers are."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imagined_costs import BLOCKS, CONV, staircase
from onnx_nets import CONV as CONV_NODES
from onnx_nets import CONV_WEIGHTS, HEAD, HEAD_WEIGHTS, model
from slimnet import build_model, channel_groups
from slimnet.allocation import NetworkCost, network_layers
from slimnet.allocation.cost import as_exported, places
from slimnet.errors import ArgumentError, FileFormatError, MeasureError
from slimnet.export import export_onnx
from slimnet.graph import prunable
from slimnet.measure import count
from slimnet.measure.costs import CostTable, NodeTimes, Site, Target, profile_network, profile_nodes, table, timer
from slimnet.measure.costs.grid import PROBED, Layout, Span, layout_of, points
from slimnet.measure.costs.probe import probe_model
from slimnet.onnx.flops import linear_reads
from slimnet.onnx_surgery import Reading, read_onnx
from slimnet.progress import Listener, Task, listening

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
    quiet, turn = timer.profile_nodes, itertools.count()

    def disturbed(*arguments: Any, **how: Any) -> NodeTimes:
        node = quiet(*arguments, **how).nodes[0]
        slower = 3 if next(turn) in (0, 8, 15, 22) else 1
        return NodeTimes((replace(node, microseconds=slower * node.microseconds),))

    monkeypatch.setattr(timer, "profile_nodes", disturbed)
    assert CostTable(folder=None).layout == BLOCKS


def test_what_was_measured_on_a_busy_machine_is_measured_again(
    imagined: list[tuple[Site, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs, quiet = CostTable(folder=None), timer.profile_nodes
    assert costs.layout == BLOCKS
    turn = itertools.count()

    def busy_at_first(*arguments: Any, **how: Any) -> NodeTimes:
        node = quiet(*arguments, **how).nodes[0]
        return NodeTimes((replace(node, microseconds=node.microseconds * (2 if next(turn) < 10 else 1)),))

    monkeypatch.setattr(timer, "profile_nodes", busy_at_first)
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
    assert timer.layer_time(found) > 0
    nodes, beside = profile_network(probe_model(site, 16, 16), Target(), runs=2)
    assert [node.name for node in nodes.nodes] == [node.name for node in found.nodes] and beside >= 0


def opened(inputs: str, body: str = CONV_NODES + HEAD) -> Reading:
    """A small ONNX file that takes such inputs."""
    return read_onnx(model(body, CONV_WEIGHTS | HEAD_WEIGHTS, inputs=inputs), image_size=8)


def profiled(reading: Reading, monkeypatch: pytest.MonkeyPatch, target: Target) -> NodeTimes:
    """What is profiled where its cost is predicted; layers alone are imagined."""
    found: list[NodeTimes] = []

    def watched(*arguments: Any, **how: Any) -> tuple[NodeTimes, float]:
        nodes, beside = profile_network(*arguments, **how)
        found.append(nodes)
        return nodes, beside

    monkeypatch.setattr(timer, "profile_network", watched)
    (example,) = reading.inputs
    NetworkCost.measure(reading.model, example, channel_groups(reading.model, example), CostTable(target, folder=None))
    return found[0]


def test_a_network_of_open_size_is_profiled_at_that_of_the_example(imagined: object, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = profiled(opened("float[N, 3, H, W] x"), monkeypatch, Target(batch=2)).nodes
    assert [(node.shape[0], *node.shape[2:]) for node in nodes if "Conv" in node.op] == [(2, 8, 8)]


def test_a_network_of_a_fixed_batch_is_profiled_at_that_batch_alone(imagined: object, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = opened("float[4, 3, 8, 8] x")
    nodes = profiled(fixed, monkeypatch, Target(batch=fixed.batch or 0)).nodes
    assert [node.shape[0] for node in nodes if "Conv" in node.op] == [4]
    with pytest.raises(ArgumentError, match="`batch` must be 4 for the network, whose batch is fixed, got 2"):
        profiled(fixed, monkeypatch, Target(batch=2))


def test_a_network_of_whole_numbers_is_profiled(imagined: object, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "h = Cast <to = 1> (x)" + CONV_NODES.replace("(x,", "(h,") + HEAD
    nodes = profiled(opened("uint8[N, 3, 8, 8] x", body), monkeypatch, Target()).nodes
    assert "Cast" in {node.op for node in nodes}


def test_the_time_of_a_loop_is_that_of_the_nodes_in_it() -> None:
    loop = """
        often = Constant <value_int = 3> ()
        true = Constant <value = bool {1}> ()
        y = Loop <body = turn (int64 i, bool go, float[N, 5] now) => (bool on, float[N, 5] next) {
            on = Identity (go)
            next = Add (now, now)
        }> (often, true, z)"""
    body = CONV_NODES + HEAD.replace("y = Gemm", "z = Gemm") + loop
    data = model(body, CONV_WEIGHTS | HEAD_WEIGHTS).SerializeToString()
    nodes, beside = profile_network(data, Target(), runs=2)
    for found in (nodes, profile_nodes(data, Target(), runs=2)):
        operators = [node.op for node in found.nodes]
        assert operators.count("Loop") == 1 and not {"Add", "Identity"} & set(operators)
    assert beside >= 0


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
    assert first.sites == (Site("conv", (8, 8), (3, 3), (1, 1), (1, 1)),) and first.flops({}) == 27_648
    assert [site.size for site in second.sites] == [(8, 8), (4, 4)] and second.flops({}) == 80 * 2304
    assert {site.size for site, *_ in places([first, second])} == {(8, 8), (4, 4)}
    (grouped,) = network_layers(torch.nn.Conv2d(4, 8, 1, groups=2), torch.randn(2, 4, 8, 8), ())
    assert grouped.sites == () and places([grouped]) == []
