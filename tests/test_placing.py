"""What stays in float32 because it is faster so: the decision from made-up times, and what comes of it in a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

import slimnet
from slimnet.errors import ArgumentError
from slimnet.export.precision import Evaluated, make_precisions
from slimnet.export.precision._int8 import Quantiser
from slimnet.export.precision._place import ALL, MOST, TOGETHER, Candidate, Compare, Placement, candidates, place, surely_faster
from slimnet.export.precision._widths import widened
from slimnet.measure import LatencyReport
from slimnet.measure.timings import Variant
from slimnet.onnx import graph as ir
from test_precision import float_layers, scripted

Nodes = tuple[str, ...]


def variant(name: str, speedup: float, half: float) -> Variant:
    return Variant(name, None, 0, 100, 1, 1, None, speedup, (speedup - half, speedup + half), 0, 0, False)


def run(speedups: Mapping[str, float], *, half: float = 0.01, noise: float = 0.02) -> LatencyReport:
    rows = tuple(variant(name, speedup, half) for name, speedup in speedups.items())
    return LatencyReport(rows, variant("control", 1.0, noise), rows[0].name, 1, 1, "cpu", "given", 100, 1, {}, {})


@pytest.mark.parametrize(
    ("speedups", "half", "noise", "faster"),
    [
        ({"a": 1.10, "b": 1.20}, 0.01, 0.02, ["b", "a"]),
        ({"a": 1.10, "b": 1.02}, 0.01, 0.02, ["a"]),  # no more than the control is off
        ({"a": 1.10, "b": 1.20}, 0.15, 0.02, ["b"]),  # the interval holds 1
        ({"a": 1.10, "b": 1.20}, 0.01, 0.20, []),  # a busy machine
        ({"a": 0.50}, 0.01, 0.02, []),
    ],
)
def test_only_what_is_beyond_interval_and_control_is_faster(
    speedups: dict[str, float], half: float, noise: float, faster: list[str]
) -> None:
    assert surely_faster(run({ALL: 1.0, **speedups}, half=half, noise=noise), list(speedups)) == faster


FOUND = [Candidate("A", ("a1", "a2")), Candidate("B", ("b",)), Candidate("C", ("c",))]


class Runs:
    """Paired runs that were made up, in the order in which they are asked for; a network is the names of its float32 nodes."""

    def __init__(self, *runs: Mapping[str, float]) -> None:
        self.left, self.asked = list(runs), list[dict[str, bytes]]()

    def __call__(self, files: Mapping[str, Path]) -> LatencyReport:
        self.asked.append({name: path.read_bytes() for name, path in files.items()})
        assert next(iter(files)) == ALL
        speedups = self.left.pop(0)
        return run({name: speedups.get(name, 1.0) for name in files})


def placed(
    runs: Runs, *, accepts: Callable[[bytes], bool] = lambda data: True, layers: Nodes = ("a1", "b", "c", "d")
) -> Placement:
    return place(
        lambda nodes: " ".join(nodes).encode(), FOUND, fixed=("f",), compare=cast(Compare, runs), accepts=accepts, layers=layers
    )


def test_nothing_is_placed_where_nothing_is_faster() -> None:
    runs = Runs({"A": 0.8, "B": 1.02})
    found = placed(runs)
    assert (found.nodes, found.data, list(found.tried)) == (("f",), b"f", ["first"])
    assert runs.asked == [{ALL: b"f", "A": b"f a1 a2", "B": b"f b", "C": b"f c"}]


@pytest.mark.parametrize(
    ("second", "nodes"),
    [
        ({"B": 1.2, TOGETHER: 1.3}, ("f", "b", "a1", "a2")),
        ({"B": 1.2, TOGETHER: 1.1}, ("f", "b")),
        ({"B": 1.01, TOGETHER: 1.01}, ("f",)),  # the first run was luck
        ({"B": 1.01, TOGETHER: 1.2}, ("f", "b", "a1", "a2")),
    ],
)
def test_a_second_run_decides(second: dict[str, float], nodes: Nodes) -> None:
    runs = Runs({"A": 1.1, "B": 1.2, "C": 1.0}, second)
    found = placed(runs)
    assert (found.nodes, found.data) == (nodes, " ".join(nodes).encode())
    assert runs.asked[1] == {ALL: b"f", "B": b"f b", TOGETHER: b"f b a1 a2"}
    assert found.tried["second"][TOGETHER]["speedup"] == second[TOGETHER]


def test_one_that_is_faster_needs_no_company() -> None:
    runs = Runs({"C": 1.2}, {"C": 1.2})
    assert placed(runs).nodes == ("f", "c")
    assert runs.asked[1].keys() == {ALL, "C"}


def test_some_layer_stays_in_int8() -> None:
    runs = Runs({"A": 1.1, "B": 1.2, "C": 1.3}, {"C": 1.3})
    assert placed(runs, layers=("a1", "b", "c")).nodes == ("f", "c")
    assert TOGETHER not in runs.asked[1]


def test_what_is_not_accurate_enough_gives_way_to_the_next() -> None:
    runs = Runs({"A": 1.1, "B": 1.2}, {"B": 1.2, TOGETHER: 1.3})
    assert placed(runs, accepts=lambda data: data == b"f b").nodes == ("f", "b")
    runs = Runs({"A": 1.1, "B": 1.2}, {"B": 1.2, TOGETHER: 1.3})
    assert placed(runs, accepts=lambda data: False).nodes == ("f",)


# --- in a network -----------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Two sizes of maps, a residual addition, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.back = (
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
        )
        self.down, self.deep, self.head = nn.Conv2d(6, 7, 3, stride=2, padding=1), nn.Conv2d(7, 5, 1), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        x = (x + self.back(self.inner(x).relu())).relu()
        x = self.deep(self.down(x).relu()).relu()
        head: torch.Tensor = self.head(x.mean((2, 3)))
        return head


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    torch.manual_seed(0)
    path, x = tmp_path_factory.mktemp("placing") / "net.onnx", torch.randn(8, 3, 8, 8)
    slimnet.export_onnx(Net().eval(), x, path)
    data = path.read_bytes()
    quantiser = Quantiser(data, x.numpy(), reduce_range=False)
    return SimpleNamespace(data=data, images=x.numpy(), quantiser=quantiser, found=candidates(quantiser.prepared))


def layer(made: SimpleNamespace, *numbers: int) -> set[str]:
    return {made.quantiser.layers[number] for number in numbers}


def test_candidates_are_stages_and_layers_alike(made: SimpleNamespace) -> None:
    weighted = set(made.quantiser.layers)
    found = {one.name: set(one.nodes) & weighted for one in made.found}
    assert found == {
        "maps of 8×8": layer(made, 0, 1, 2),
        "Conv 6×6×3×3×to×8×8": layer(made, 1, 2),
        "Conv 6×3×3×3×to×8×8": layer(made, 0),
        "maps of 4×4": layer(made, 3, 4),
        "Conv 7×6×3×3×to×4×4": layer(made, 3),
        "Conv 5×7×1×1×to×4×4": layer(made, 4),
        "no maps": layer(made, 5),
    } | {name: nodes for name, nodes in found.items() if name.startswith("Gemm") and nodes == layer(made, 5)}
    stage = next(one for one in made.found if one.name == "maps of 8×8")
    operators = {node.name: node.op_type for node in ir.read(made.quantiser.prepared).graph}
    assert {operators[name] for name in stage.nodes} == {"Conv", "Relu", "Add"}
    assert len(made.found) <= MOST


def by_layers(*fast: str) -> Compare:
    """Times by which these layers are 1.5 times as fast in float32, and all others half as fast."""

    def compare(files: Mapping[str, Path]) -> LatencyReport:
        def speed(path: Path) -> float:
            left = float_layers(path.read_bytes())
            return float(np.prod([1.5 if name in fast else 0.5 for name in left]))

        return run({name: speed(path) for name, path in files.items()})

    return compare


def chosen(made: SimpleNamespace, accuracies: list[float], compare: Compare, **how: Any) -> Any:
    return make_precisions(
        made.data, ["int8"], calibration=made.images, evaluate=scripted(accuracies), compare=compare, reduce_range=False,
        **{"placing": "measured", **how},
    )["int8"]  # fmt: skip


def test_the_layers_that_are_faster_so_stay_in_float32(made: SimpleNamespace) -> None:
    slow = layer(made, 1, 2)
    found = chosen(made, [0.9, 0.9, 0.9, 0.9, 0.9], by_layers(*slow))
    assert float_layers(found.data) == slow == set(found.made["excluded"])
    assert set(found.as_dict()["placed"]) == {"first", "second"}
    assert "placed" not in found.made  # the bundle holds no figure of the clock


def test_the_accuracy_gate_stays(made: SimpleNamespace) -> None:
    fast = by_layers(*layer(made, 1, 2))
    assert chosen(made, [0.9, 0.9, 0.9, 0.9, 0.88, 0.88], fast).made["excluded"] == []
    assert chosen(made, [0.9, 0.9, 0.9, 0.9, 0.896], fast).made["excluded"] != []


def test_nothing_is_timed_where_nobody_asks(made: SimpleNamespace) -> None:
    found = chosen(made, [0.9] * 4, by_layers(*layer(made, 1, 2)), placing="all")
    assert found.made["excluded"] == [] and "placed" not in found.as_dict()
    with pytest.raises(ArgumentError, match=r"^`placing` must be one of all, measured, got 'fast'\.$"):
        make_precisions(made.data, [], calibration=made.images, evaluate=lambda data: Evaluated(0, np.zeros(1, np.int64)),
                        placing="fast")  # type: ignore[arg-type]  # fmt: skip


def test_no_zeros_are_put_between_layers_in_float32(made: SimpleNamespace) -> None:
    def widths(exclude: Nodes) -> list[int]:
        graph = ir.read(widened(made.quantiser.prepared, exclude=exclude).data).graph
        return [len(ir.known(node.inputs[1])) for node in graph if node.op_type == "Conv"]

    layers = made.quantiser.layers
    assert widths(()) == [16, 16, 16, 16, 16]
    assert widths(tuple(layers[1:3])) == [16, 6, 16, 16, 16]
    assert widths(tuple(layers[:4])) == [6, 6, 6, 16, 16]
