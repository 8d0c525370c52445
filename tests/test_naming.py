"""Names of the nodes of an exported network: the modules that they compute."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from slimnet.export import export_onnx
from slimnet.models import build_model
from slimnet.names import Mode
from slimnet.onnx.naming import name_by_module


def exported(model: nn.Module, example: Tensor, path: Path, mode: Mode = "safe") -> list[tuple[str, str]]:
    """(name, operator) of each node."""
    export_onnx(model.eval(), example, path, optimise=mode)
    return [(node.name, node.op_type) for node in onnx.load(path).graph.node]


def test_nodes_are_named_after_their_modules(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, example = build_model("resnet8", num_classes=10, in_channels=3), torch.randn(2, 3, 8, 8)
    found = exported(model, example, tmp_path / "a.onnx")
    names = dict(found)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert {name for name in layers if names.get(name) in ("Conv", "Gemm")} == set(layers)
    assert [name for name, _ in found if name.startswith("layer1.0")] == [
        "layer1.0.conv1",
        "layer1.0.relu",
        "layer1.0.conv2",
        "layer1.0.add",
        "layer1.0.relu_1",
    ]
    assert len(names) == len(found)
    assert not [name for name in names if name.startswith("node_")]
    exported(model, example, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_every_step_leaves_names_that_differ(tmp_path: Path) -> None:
    model = build_model("resnet8", num_classes=10, in_channels=3)
    found = exported(model, torch.randn(2, 3, 8, 8), tmp_path / "a.onnx", "measured")
    assert len(dict(found)) == len(found)
    assert ("linear", "Gemm") in found


class Shared(nn.Module):
    """A module that runs twice, and one whose name is like a name of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        self.relu = nn.ReLU()
        self.head = nn.Linear(1, 3)
        self.add_module("a 'b'\n\\", nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(self.relu(self.conv(x)))).relu() + 1.0
        return self.head(getattr(self, "a 'b'\n\\")(x).mean((2, 3)))


def test_a_module_that_runs_twice_and_odd_names(tmp_path: Path) -> None:
    names = [name for name, _ in exported(Shared(), torch.randn(2, 1, 4, 4), tmp_path / "a.onnx", "none")]
    assert len(set(names)) == len(names)
    assert {"conv", "conv_1", "head", "a 'b'\n\\"} <= set(names)


def test_what_is_noted_is_read_as_data() -> None:
    """Nothing of it is run, and what is no list of scopes leaves the operator's name."""
    notes = ["__import__('os').getcwd()", "[", "", "3", "{'a': 1}", "['']", "['', 'm', 'relu']"]
    nodes = [onnx.helper.make_node("Relu", [f"x{i}"], [f"x{i + 1}"]) for i in range(len(notes))]
    for node, note in zip(nodes, notes, strict=True):
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=note)
    proto = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
    name_by_module(proto)
    assert [node.name for node in proto.graph.node] == ["relu", *(f"relu_{i}" for i in range(1, 6)), "m"]
