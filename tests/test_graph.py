"""Channel groups: what is tied to what, and what must stay."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimnet.errors import ArgumentError, GraphError
from slimnet.graph import ChannelGroup, channel_groups, prunable
from slimnet.graph.capture import capture
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.rules import rule_for
from slimnet.models import build_model


def by_name(model: nn.Module, *shape: int, couple: str = "stream") -> dict[str, ChannelGroup]:
    groups = channel_groups(model, torch.randn(2, *shape), couple=couple)  # type: ignore[arg-type]
    assert len({group.name for group in groups}) == len(groups)
    return {group.name: group for group in groups}


def test_streams_of_the_option_a_shortcut_are_tied_with_an_offset() -> None:
    groups = by_name(build_model("resnet20", num_classes=10), 3, 32, 32)
    streams = {name: group for name, group in groups.items() if group.is_stream}
    assert {name: group.size for name, group in streams.items()} == {"conv1": 16, "layer2.0.conv2": 16, "layer3.0.conv2": 32}
    rows = {rows.name: rows.index.flatten().tolist() for rows in streams["conv1"].weights}
    assert rows["conv1.weight"] == list(range(16))
    assert rows["layer2.0.conv2.weight"] == list(range(8, 24))
    assert rows["layer3.2.conv2.weight"] == list(range(24, 40))
    new = {rows.name: rows.index.flatten().tolist() for rows in streams["layer2.0.conv2"].weights}
    assert new["layer2.0.conv2.weight"] == [*range(8), *range(24, 32)]
    assert sum(group.size for group in prunable(groups.values())) == 3 * (16 + 32 + 64) + 16 + 16 + 32


def test_a_group_holds_filters_norms_and_readers() -> None:
    inner = by_name(build_model("resnet20", num_classes=10), 3, 32, 32)["layer1.0.conv1"]
    assert [rows.name for rows in inner.filters] == ["layer1.0.conv1.weight"]
    assert {rows.name.rpartition(".")[2] for rows in inner.norms} == {"weight", "bias", "running_mean", "running_var"}
    assert [(rows.name, rows.dim) for rows in inner.inputs] == [("layer1.0.conv2.weight", 1)]


def test_ends_of_the_network_are_pinned() -> None:
    groups = by_name(build_model("resnet20", num_classes=10), 3, 32, 32)
    assert groups["linear"].pinned == "output of the network"
    assert groups["input"].pinned == "input of the network"


def test_without_coupling_every_convolution_is_a_group_with_its_norm() -> None:
    groups = by_name(build_model("resnet20", num_classes=10), 3, 32, 32, couple="none")
    assert len(groups) == 19
    assert all(len(group.weights) == 1 and group.norms for group in groups.values())
    assert {rows.module for rows in groups["layer2.0.conv2"].norms} == {"layer2.0.bn2"}


def test_flatten_gives_each_channel_its_columns() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 9, 5))
    columns = by_name(model, 1, 8, 8)["0"].inputs[0]
    assert columns.name == "4.weight"
    assert columns.index.tolist() == [list(range(9 * c, 9 * c + 9)) for c in range(4)]


class Block(nn.Module):
    """One of the shapes in the table below."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.norm = nn.GroupNorm(2, 8)
        self.head = nn.Conv2d(16 if kind == "cat" else 8, 4, 1)
        self.tiny = nn.Conv2d(8, 1, 1)
        self.quarter = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        match self.kind:
            case "add":
                return self.head(a + self.b(x))
            case "cat":
                return self.head(torch.cat([a, self.b(x)], 1))
            case "gate":
                return self.head(a * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(a, 1))))
            case "spatial gate":
                return self.head(a * torch.sigmoid(self.tiny(a)))
            case "depthwise":
                return self.head(self.depthwise(a))
            case "grouped":
                return self.head(self.grouped(a))
            case "twice":
                return self.head(self.gate(self.gate(a)))
            case "group norm":
                return self.head(self.norm(a))
            case "in place":
                F.relu_(a)
                return self.head(a.add_(self.b(x)))
            case "view in place":
                F.relu_(a[:, :4])
                return self.head(a)
            case "chunk in place":
                F.relu_(a.chunk(2, 1)[0])
                return self.head(a)
            case "own view in place":
                return self.head(F.relu_(a.flatten(2)).view(a.shape))
            case "dropout in place":
                return self.head(F.dropout(a.flatten(2), 0.5, self.training, inplace=True).view(a.shape) + a)
            case "picked":
                return self.quarter(a[:, :4])
            case "shuffled":
                n, c, h, w = a.shape
                return self.head(a.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))
            case "softmax":
                return self.head(torch.softmax(a, 1))
            case _:
                return self.head(F.pad(a[:, 4:], (0, 0, 0, 0, 2, 2)))


@pytest.mark.parametrize(
    ("kind", "free"),
    [
        ("add", {"a": 8}),
        ("cat", {"a": 8, "b": 8}),
        ("gate", {"a": 8}),
        ("spatial gate", {"a": 8}),
        ("depthwise", {"a": 8}),
        ("grouped", {"a": 2}),
        ("twice", {"a": 8}),
        ("in place", {"a": 8}),
        ("group norm", {"a": 2}),
        ("view in place", {}),
        ("chunk in place", {}),
        ("own view in place", {"a": 8}),
        ("dropout in place", {"a": 8}),
        ("picked", {"a#2": 4}),
        ("shuffled", {"a": 4}),
        ("softmax", {}),
        ("padded", {}),
    ],
)
def test_what_may_go(kind: str, free: dict[str, int]) -> None:
    groups = prunable(channel_groups(Block(kind), torch.randn(2, 3, 8, 8)))
    assert {group.name: group.size for group in groups} == free


def test_an_unknown_operator_is_the_reason() -> None:
    groups = {group.name: group for group in channel_groups(Block("softmax"), torch.randn(2, 3, 8, 8))}
    assert "softmax" in groups["a"].pinned


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item().is_known else -x


def test_refusals() -> None:
    with pytest.raises(GraphError, match="Unknown cannot be analysed"):
        channel_groups(Unknown(), torch.randn(2, 3, 4, 4))
    with pytest.raises(GraphError, match=r"\(2, 5, 4, 4\)"):
        channel_groups(nn.Conv2d(3, 4, 1), torch.randn(2, 5, 4, 4))
    with pytest.raises(ArgumentError, match="couple"):
        channel_groups(nn.Conv2d(3, 4, 1), torch.randn(2, 3, 4, 4), couple="some")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="example_inputs"):
        channel_groups(nn.Conv2d(3, 4, 1), "x")  # type: ignore[arg-type]


def test_the_model_is_left_as_it_was() -> None:
    model = build_model("resnet20", num_classes=10)
    model.train()
    model.layer1.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    channel_groups(model, torch.randn(2, 3, 32, 32))
    assert model.training and not model.layer1.training and model.layer2.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def steps_of_analysis(blocks: int) -> int:
    """How many calls of functions the analysis of a network takes, torch.export not counted: the same on any machine."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)) for _ in range(blocks)]
    model, x = nn.Sequential(*layers).eval(), torch.randn(2, 4, 8, 8)
    program = capture(model, x)
    count = 0

    def called(_frame: object, event: str, _value: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(called)
    try:
        Interpreter(model, program, rule_for).walk()
    finally:
        sys.setprofile(None)
    return count


def test_the_work_grows_with_the_network_and_not_faster() -> None:
    steps_of_analysis(1)  # what is made on first use
    assert steps_of_analysis(64) < 4.4 * steps_of_analysis(16)
