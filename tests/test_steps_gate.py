"""Steps after export on a real network: what passes the gate, what pays, and what stays apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnxscript import ir
from torch import Tensor, nn

import slimnet
from slimnet.errors import ArgumentError, ParityError
from slimnet.export.exporter import build
from slimnet.export.gate import Examples, check_onnx
from slimnet.export.parity import ONNX_MODEL, ParityReport
from slimnet.export.steps import STEPS, Step, StepResult, optimise_graph
from slimnet.export.steps.driver import judge
from slimnet.models.resnet import PadShortcut
from test_steps import BY_NAME, operators, run, shortcut


class Net(nn.Module):
    """A shortcut without parameters, a pool, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.shortcut = PadShortcut(2, 2, 2)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.relu(self.deep(x) + self.shortcut(x))
        return self.linear(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.fixture(scope="module")
def net() -> SimpleNamespace:
    """A network, its export without any step, and its gate."""
    torch.manual_seed(0)
    model, examples = Net().eval(), Examples.of(torch.randn(2, 3, 8, 8))
    model.norm.running_mean.uniform_(-1, 1)
    plain = build(model, examples, optimise="none")
    return SimpleNamespace(
        model=model, examples=examples, plain=plain.data, gate=lambda data: check_onnx(data, {ONNX_MODEL: model}, examples)
    )


def breaking(model: object) -> int:
    """A step that computes something else: it doubles every weight."""
    for value in model.graph.initializers.values():  # type: ignore[attr-defined]
        if "weight" in value.name:
            value.const_value = ir.tensor(value.const_value.numpy() * 2, name=value.name)
    return 1


def failing(_: object) -> int:
    raise KeyError("no such\nthing")


def invalid(model: object) -> int:
    """A step that leaves a graph that is no ONNX: a node without its input."""
    model.graph[0].replace_input_with(1, None)  # type: ignore[index, attr-defined]
    return 1


def test_safe_steps_are_kept_and_pass_the_gate(net: SimpleNamespace) -> None:
    data, report = optimise_graph(net.plain, net.gate)
    assert report.kept == ("merge-moves", "global-pool")
    assert net.gate(data).passed
    assert all(result.speedup is None for result in report.results)
    assert sum(operators(data).values()) < sum(operators(net.plain).values())


@pytest.mark.parametrize(("change", "why"), [(breaking, "parity gate"), (failing, "failed: 'no such"), (invalid, "failed: ")])
def test_a_step_that_breaks_the_graph_is_refused_and_the_others_stay(
    net: SimpleNamespace, change: Callable[[object], int], why: str
) -> None:
    bad = Step("bad", change, is_clean=True)
    data, report = optimise_graph(net.plain, net.gate, steps=[BY_NAME["merge-moves"], bad, BY_NAME["global-pool"]])
    assert report.kept == ("merge-moves", "global-pool")
    assert why in report.results[1].reason and "\n" not in report.results[1].reason
    assert data == optimise_graph(net.plain, net.gate, steps=[BY_NAME["merge-moves"], BY_NAME["global-pool"]])[0]


def test_a_gate_that_raises_refuses(net: SimpleNamespace) -> None:
    def gate(data: bytes) -> ParityReport:
        if data != net.plain:
            raise ParityError("an output is NaN")
        return net.gate(data)

    data, report = optimise_graph(net.plain, gate)
    assert data == net.plain and report.kept == ()
    assert report.results[0].reason == "refused by the parity gate: an output is NaN"


def test_nothing_is_done_where_nothing_is_asked_for(net: SimpleNamespace) -> None:
    assert optimise_graph(net.plain, net.gate, "none")[0] is net.plain
    with pytest.raises(ArgumentError, match=r"`optimise` must be one of none, safe, measured, got 'fast'\."):
        build(net.model, net.examples, optimise="fast")  # type: ignore[arg-type]


class Latency:
    """What a measurement found, for the rule that judges it."""

    def __init__(self, speedup: float, half: float, noise: float) -> None:
        self.after = SimpleNamespace(speedup=speedup, interval=(speedup - half, speedup + half))
        self.control = SimpleNamespace(interval=(1 - noise, 1 + noise / 2))
        self.flags = {"contended": "busy"}

    def __getitem__(self, name: str) -> SimpleNamespace:
        assert name == "after"
        return self.after


RESULT = StepResult("step", 1, True, "passed the parity gate", (3, 2), (30, 20))


@pytest.mark.parametrize(
    ("speedup", "half", "noise", "clean", "other"),
    [
        (1.10, 0.02, 0.01, True, True),  # faster
        (1.02, 0.03, 0.01, True, False),  # the interval holds 1
        (1.02, 0.01, 0.03, True, False),  # no more than the control is off
        (0.98, 0.01, 0.03, True, False),  # no less than the control is off
        (0.90, 0.02, 0.01, False, False),  # slower
    ],
)
def test_the_rule(speedup: float, half: float, noise: float, clean: bool, other: bool) -> None:
    measured = Latency(speedup, half, noise)
    kept = [judge(RESULT, measured, is_clean=is_clean).kept for is_clean in (True, False)]  # type: ignore[arg-type]
    assert kept == [clean, other]
    result = judge(RESULT, measured, is_clean=True)  # type: ignore[arg-type]
    assert (result.speedup, result.control, result.flags) == (speedup, measured.control.interval, {"contended": "busy"})


@pytest.mark.parametrize("faster", [True, False])
def test_measured_keeps_a_trade_only_if_it_pays(net: SimpleNamespace, faster: bool) -> None:
    asked = []

    def pace(before: bytes, after: bytes) -> Latency:
        asked.append((operators(before), operators(after)))
        return Latency(1.2 if faster else 1.0, 0.02, 0.01)

    steps = [BY_NAME[name] for name in ("merge-moves", "global-pool", "select-conv")]
    data, report = optimise_graph(net.plain, net.gate, "measured", pace=pace, steps=steps)  # type: ignore[arg-type]
    assert [result.name for result in report.results] == ["merge-moves", "global-pool", "select-conv"]
    assert [result.kept for result in report.results] == [True, True, faster]
    assert asked[0][1] == asked[1][0] and operators(data)["Pad"] == (not faster)
    assert net.gate(data).passed


def test_the_clock_itself(net: SimpleNamespace) -> None:
    from slimnet.export.steps import Pace

    report = Pace(rounds=20, seconds=0.01)(net.plain, net.plain)
    assert report.rounds >= 20 and report["after"].interval[0] <= report["after"].speedup <= report["after"].interval[1]


def test_two_exports_are_the_same_and_tell_what_was_done(net: SimpleNamespace) -> None:
    first, second = (build(net.model, net.examples, metadata={"a": "b"}) for _ in range(2))
    assert first.data == second.data and first.steps == second.steps
    assert first.steps.as_dict()["mode"] == "safe"
    assert {entry.key: entry.value for entry in onnx.load_from_string(first.data).metadata_props} == {"a": "b"}
    assert first.parity.passed


FOLDED = {"BatchNormalization", "Identity", "Constant", "Cast", "Shape", "Dropout", "ConstantOfShape"}


@pytest.mark.parametrize("opset", [18, 21])
def test_the_exporter_leaves_no_norms_and_no_idle_nodes(net: SimpleNamespace, opset: int) -> None:
    """What ``fold`` is there for when it does not."""
    assert FOLDED & set(operators(build(net.model, net.examples, opset=opset, optimise="none").data)) == set()


def test_an_expanded_network_is_exported_without_shape_computations() -> None:
    torch.manual_seed(0)
    model, example = slimnet.build_model("resnet8", num_classes=4).eval(), torch.randn(2, 3, 16, 16)
    slimnet.prune(model, example, rate=0.4, couple="none")
    small = slimnet.slim(model, example, expand=True).model
    exported = build(small, Examples.of(example), reference=model)
    assert FOLDED & set(operators(exported.data)) == set()
    assert exported.steps.kept[0] == "merge-moves"
    zero_rows = BY_NAME["zero-rows"](exported.data)
    assert zero_rows[1] == 3 and operators(zero_rows[0])["Gather"] == 0
    np.testing.assert_allclose(run(zero_rows[0]), run(exported.data), atol=1e-5)


def test_steps_stay_apart() -> None:
    """All pairs of steps, in either order, leave what is computed."""
    before = shortcut(0, 1, 0, 0, 0, 2, 0, 0)
    expected = run(before)
    for first, second in itertools.permutations(STEPS, 2):
        np.testing.assert_allclose(run(second(first(before)[0])[0]), expected, rtol=0, atol=1e-5)
