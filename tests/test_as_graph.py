"""The exported program as the slim model: what the network's code counts goes, exactly, or stays for a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule
from torchvision.models.swin_transformer import SwinTransformer

import slimnet
from slimnet.commands import slim_checkpoint
from slimnet.errors import ArgumentError, FileFormatError, SurgeryError
from slimnet.export import export_onnx
from slimnet.measure import count
from slimnet.surgery import Plan, SlimResult, slim
from slimnet.surgery.uncut import uncut
from written_networks import reasons, written, x


def gated(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    return m.head(m.c(torch.sigmoid(y[:, :4]) * y[:, 4:]))


def split(m: Any, x: Tensor) -> Any:
    first, second = m.a(x).split([6, 2], 1)
    return m.head(m.b(torch.cat([F.relu(second), torch.tanh(first)], 1)))


def chunked(m: Any, x: Tensor) -> Any:
    first, second, third = m.a(x).chunk(3, 1)  # 3, 3 and 2 channels
    return m.head(m.b(torch.cat([second, third, F.relu(first)], 1)))


def narrowed(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    return m.head(m.b(torch.cat([y.narrow(1, 5, 3), torch.tanh(y.narrow(1, 0, 5))], 1)))


def viewed(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x)).mean((2, 3))
    return m.line(y.view(-1, 8))


def flat(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.wide(F.adaptive_avg_pool2d(y, 2).reshape(x.shape[0], 32))


def gates(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    gate = torch.sigmoid(m.c(y.mean((2, 3)).view(-1, 8, 1, 1)))
    return m.head(m.b(y) * gate.expand(-1, 8, 12, 12))


def shuffled(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    return m.head(m.b(y.view(-1, 4, 2, 12, 12).transpose(1, 2).reshape(-1, 8, 12, 12)))


def depthwise(m: Any, x: Tensor) -> Any:
    return m.head(F.relu(m.norm(m.deep(m.a(x)[:, 2:]))))


def cropped(m: Any, x: Tensor) -> Any:
    """torch.export holds the computed border against the input's size."""
    y = m.a(x)[:, :, : max(x.shape[2] // 2, 7)]
    return m.line(F.max_pool2d(F.relu(y), 3, 2, 1).mean((2, 3)).view(-1, 8))


CASES: dict[str, tuple[Callable[..., Any], Callable[[], dict[str, nn.Module]], int]] = {
    "gated": (gated, lambda: {"c": nn.Conv2d(4, 8, 1)}, 2),
    "split": (split, dict, 5),
    "chunked": (chunked, dict, 5),
    "narrowed": (narrowed, dict, 5),
    "viewed": (viewed, lambda: {"line": nn.Linear(8, 3)}, 5),
    "cropped": (cropped, lambda: {"line": nn.Linear(8, 3)}, 5),
    "flat": (flat, lambda: {"wide": nn.Linear(32, 3, bias=False)}, 5),
    "gates": (gates, lambda: {"c": nn.Conv2d(8, 8, 1)}, 5),
    "shuffled": (shuffled, dict, 4),
    "depthwise": (
        depthwise,
        lambda: {"deep": nn.Conv2d(6, 6, 3, groups=6), "norm": nn.GroupNorm(6, 6), "head": nn.Conv2d(6, 3, 1)},
        5,
    ),
}
"""Forward pass, its modules, and how many of the eight channels of ``a`` the graph can do without, of five that are zero."""


def network(case: str) -> nn.Module:
    forward, modules, _ = CASES[case]
    model = written(forward, **modules())
    model.a.bias.data[:5] = 0  # type: ignore[union-attr]
    return model


def of_a(result: SlimResult) -> int:
    """Rows of ``a`` that are left."""
    return len(result.model.get_parameter("a.weight"))


@pytest.mark.parametrize("case", CASES)
def test_what_the_code_counts_goes_from_the_graph(case: str, tmp_path: Path) -> None:
    model = network(case)
    plain, graph = slim(model, x()), slim(model, x(), as_graph=True)
    assert plain.report.way == "module" and type(plain.model) is type(model)
    assert graph.report.way.startswith("graph, any batch") and isinstance(graph.model, GraphModule)
    assert of_a(graph) < of_a(plain)
    assert {(check.shape[0], check.what) for check in graph.report.verification.checks} >= {
        (1, "plan"),
        (3, "plan"),
        (3, "stored"),
    }
    assert graph.report.verification.worst < 1e-12
    export_onnx(graph.model, x(), tmp_path / "model.onnx", reference=model)
    assert len(model.get_parameter("a.weight")) == 8
    assert count(graph.model, x()).flops < count(model, x()).flops


def test_as_much_goes_as_can() -> None:
    for case, (_, _, spared) in CASES.items():
        assert 8 - of_a(slim(network(case), x(), as_graph=True)) == spared, case


def test_a_channel_that_is_picked_by_its_number_stays() -> None:
    model = written(lambda m, x: m.head(m.b(m.a(x)) + m.c(m.a(x).select(1, 3)[:, None])), c=nn.Conv2d(1, 8, 1))
    model.a.bias.data[:5] = 0
    result = slim(model, x(), as_graph=True)
    assert "counted by a number that is written in the code (operator aten.select.int over channels)" in reasons(result)
    assert result.report.verification.worst < 1e-12 and of_a(result) == 7


def test_heads_of_torchvisions_swin_go(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SwinTransformer([4, 4], 32, [1, 1], [2, 2], [4, 4], num_classes=5).eval()
    inputs = torch.randn(2, 3, 32, 32)
    attention = model.features[1][0].attn
    attention.qkv.weight.data.view(3, 2, 16, 32)[:, 0] = 0
    attention.qkv.bias.data.view(3, 2, 16)[:, 0] = 0
    plain, graph = slim(model, inputs), slim(model, inputs, as_graph=True)
    assert len(plain.model.get_parameter("features.1.0.attn.qkv.weight")) == 96
    assert len(graph.model.get_parameter("features.1.0.attn.qkv.weight")) == 48
    assert graph.report.way.startswith("graph, any batch")
    export_onnx(graph.model, inputs, tmp_path / "swin.onnx", reference=model)


def test_sizes_that_stand_in_the_code_are_not_open() -> None:
    model = written(lambda m, x: m.line(F.relu(m.a(x)).mean((2, 3)).view(2, 8)), line=nn.Linear(8, 3))
    result = slim(model, x(), as_graph=True)
    assert result.report.way == "graph, fixed sizes" and of_a(result) == 3
    assert {check.shape for check in result.report.verification.checks} == {(2, 3, 12, 12)}
    with pytest.raises(AssertionError, match=r"size\(\)\[0\] == 2"):
        result.model(x(3, 3, 12, 12))


def test_several_inputs_and_named_outputs() -> None:
    model = written(lambda m, x, y: {"a": m.head(viewed_back(m, x)), "b": m.head(viewed_back(m, y))})
    result = slim(model, (x(), x(2, 3, 12, 12)), as_graph=True)
    assert of_a(result) < 8 and result.report.verification.worst < 1e-12
    assert result.report.way.startswith("graph, any batch")


def viewed_back(m: Any, x: Tensor) -> Tensor:
    return F.relu(m.a(x)).view(-1, 8, 144).reshape(-1, 8, 12, 12)


@pytest.mark.parametrize("options", [{"part": "a"}, {"expand": True}])
def test_options_that_do_not_go_together(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="`as_graph` is for whole networks without `expand`"):
        slim(network("split"), x(), as_graph=True, **options)


def factory(num_classes: int = 3, in_channels: int = 3) -> nn.Module:
    """A network for the command line."""
    return written(flat, "b", wide=nn.Linear(32, num_classes, bias=False))


NETWORK = {"model": "test_as_graph:factory", "num_classes": 3, "in_channels": 3, "image_size": 12}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A slim network of the command line, and the masked one's weights beside it."""
    torch.save(network("flat").state_dict(), tmp_path / "net.pth")
    report = slim_checkpoint(tmp_path / "net.pth", tmp_path / "out", as_graph=True, **NETWORK)
    assert report["surgery"]["way"] == "graph, any batch and resolution"
    return tmp_path / "out"


def test_a_folder_comes_back_without_code(folder: Path) -> None:
    before = torch.get_rng_state()
    small = slimnet.load_slim(folder, trust_code="test_as_graph:factory")
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(small, GraphModule) and len(small.get_parameter("a.weight")) == 3
    model = network("flat")
    with torch.no_grad():
        for batch in (1, 5):
            given = x(batch, 3, 12, 12)
            assert float((small(given) - model(given)).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operators": 3}, "operators, the plan expects 3"),
        ({"inputs": [[16384] * 6]}, "larger than any that a plan is made with"),
        ({"kinds": ["eval"]}, r"graph.kinds"),
        ({"literals": [{"index": 0, "operator": "os.system", "argument": "size", "before": [1], "after": [2]}]}, "not os.system"),
        (
            {"literals": [{"index": 99, "operator": "aten.view.default", "argument": "size", "before": [1], "after": [2]}]},
            "is None",
        ),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    plan["graph"].update(change)
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(FileFormatError, match=message) as caught:
        slimnet.load_slim(folder, trust_code="test_as_graph:factory")
    assert "\n" not in str(caught.value)


def test_a_graph_is_not_trained_on() -> None:
    model = network("split")
    result = slim(model, x(), as_graph=True)
    plan = Plan.from_dict(json.loads(json.dumps(result.plan.as_dict())))
    assert plan == result.plan
    with pytest.raises(SurgeryError, match="an exported program, which is for inference"):
        uncut(plan, result.model.state_dict(), model.state_dict())


def test_a_graph_that_refuses_maps_of_one_place_takes_other_resolutions() -> None:
    """torch makes another program for 1 × 1; the network itself runs at the smaller size that is tried."""

    def deep(m: Any, x: Tensor) -> Any:
        maps = m.c(F.relu(m.b(F.relu(m.a(x)))[..., ::2, ::2])[..., ::2, ::2])[..., ::2, ::2]
        return m.head(maps).mean((2, 3))

    result = slim(written(deep, "a b"), x(2, 3, 16, 16), as_graph=True)
    assert result.report.way == "graph, any batch and resolution"
    assert "random, smaller" not in {check.inputs for check in result.report.verification.checks}
    with pytest.raises(AssertionError, match="Guard failed"):
        result.model(x(2, 3, 8, 4))
