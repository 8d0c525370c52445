"""Whole branches, expansion, tolerance, shared layers, activations."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimnet.errors import ArgumentError
from slimnet.export import export_onnx
from slimnet.measure import count
from slimnet.methods.closing import prune
from slimnet.models import build_model
from slimnet.surgery import slim
from slimnet.surgery.modules import Constant, Expand, Stub
from test_surgery import roughen

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("masked_norm", [True, False])
@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet50"])
def test_a_branch_that_adds_a_constant_is_removed_whole(name: str, masked_norm: bool) -> None:
    model = roughen(build_model(name, num_classes=10))
    blocks = [m for path, m in model.named_modules() if path in ("layer1.0", "layer2.0", "layer3.0")]
    last = [(block.conv3, block.bn3) if hasattr(block, "conv3") else (block.conv2, block.bn2) for block in blocks]
    for conv, norm in last:
        conv.weight.data.zero_()
        if masked_norm:
            norm.weight.data.zero_()
            norm.bias.data.zero_()
    result = slim(model, torch.randn(2, 3, 32, 32))
    assert len(result.plan.shuts) == len(blocks)
    assert result.report.verification.worst <= 1e-12
    kinds = [type(module) for module in result.model.modules()]
    assert kinds.count(Constant) == len(blocks) and Stub in kinds
    assert count(result.model, X).flops < count(model, X).flops


def test_a_branch_shut_down_is_rebuilt_from_the_plan() -> None:
    model = roughen(build_model("resnet8", num_classes=10))
    model.layer2[0].conv2.weight.data.zero_()
    result = slim(model, X)
    with torch.device("meta"):
        again = build_model("resnet8", num_classes=10)
    again = type(result.plan).from_dict(result.plan.as_dict()).apply(again)
    again.load_state_dict(result.model.state_dict(), assign=True)
    assert torch.equal(again.eval()(X), result.model(X))


def test_expand_computes_live_rows_only(tmp_path: Path) -> None:
    model = roughen(build_model("resnet20", num_classes=10))
    prune(model, X, rate=0.5, couple="none", mask_norm=False)
    kept, expanded = slim(model, X), slim(model, X, expand=True)
    assert expanded.report.verification.worst <= 1e-12
    assert any(isinstance(module, Expand) for module in expanded.model.modules())
    assert count(expanded.model, X).flops < count(kept.model, X).flops < count(model, X).flops
    file = tmp_path / "expanded.onnx"
    assert export_onnx(expanded.model, X, file, reference=model, tolerance=1e-6).passed
    operators = {node.op_type for node in onnx.load(file).graph.node}
    assert "Gather" in operators and not operators & {"ScatterElements", "ScatterND"}


def test_tolerance_counts_small_filters_as_zero() -> None:
    model = roughen(build_model("resnet8", num_classes=10))
    model.layer1[0].conv1.weight.data[:5] *= 1e-6
    assert slim(model, X).report.zeroed == 0
    report = slim(model, X, tolerance=1e-3).report
    assert report.zeroed == 5 and report.removed >= 4
    with pytest.raises(ArgumentError, match="tolerance"):
        slim(model, X, tolerance=1.0)


class Twice(nn.Module):
    """One convolution that runs twice, behind different constants."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.shared = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.shared(F.relu(self.a(x))))
        return self.head(F.relu(self.shared(F.relu(self.b(x)))))


def test_a_layer_that_runs_twice_is_cut_for_both() -> None:
    torch.manual_seed(0)
    model = Twice().eval()
    for conv in (model.a, model.b):
        conv.weight.data[:4] = 0
        conv.bias.data[:4] = torch.tensor([-1.0, -1.0, 0.3, 0.7])
    report = slim(model, X).report
    assert report.verification.worst <= 1e-12
    model.a.bias.data[2:4] = -1.0
    model.b.bias.data[2:4] = -2.0
    assert slim(model, X).report.removed >= 4


ACTIVATIONS = [
    nn.ELU(), nn.Hardshrink(), nn.Hardsigmoid(), nn.Hardtanh(), nn.Hardswish(), nn.LeakyReLU(), nn.LogSigmoid(), nn.PReLU(),
    nn.PReLU(8), nn.ReLU(), nn.ReLU6(), nn.RReLU(), nn.SELU(), nn.CELU(), nn.GELU(), nn.GELU("tanh"), nn.Sigmoid(), nn.SiLU(),
    nn.Mish(), nn.Softplus(), nn.Softshrink(), nn.Softsign(), nn.Tanh(), nn.Tanhshrink(), nn.Threshold(0.1, 0.5), nn.Identity(),
    nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout(),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("padding", [0, 1])
def test_constants_pass_every_activation(activation: nn.Module, padding: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), activation, nn.Conv2d(8, 4, 3, padding=padding))
    roughen(model)
    model[0].weight.data[:4] = 0
    result = slim(model, X)
    assert result.report.verification.worst <= 1e-12
    # at most one of the four stays, as the carrier
    assert result.report.removed >= (3 if padding else 4)


class Pooled(nn.Module):
    """A pool that counts zero padding between a layer that is closed and one that reads it."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.b, self.head = nn.Conv2d(8, 6, kernel, padding=kernel // 2), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.avg_pool2d(torch.sigmoid(self.norm(self.a(x))), 3, 1, 1))))


@pytest.mark.parametrize("kernel", [1, 3])
def test_one_carrier_takes_constants_past_a_padded_average_pool(kernel: int) -> None:
    torch.manual_seed(0)
    model = roughen(Pooled(kernel))
    model.a.weight.data[:4] = 0
    result = slim(model, X)
    assert result.model.a.out_channels == 5  # four live and a carrier
    assert result.report.verification.worst <= 1e-12


def test_reasons_say_where_a_constant_begins_to_vary() -> None:
    model = roughen(build_model("mobilenet_v3_small", num_classes=4))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data[module.groups > 1 :: 2] = 0  # depthwise layers: the other half
    reasons = {reason.partition(" (")[0] for group in slim(model, X).plan.groups for reason in group.reasons}
    assert {"constant, but not at the border of zero padding", "constant, but multiplied by a value that varies"} <= reasons


def test_surgery_leaves_memory_of_its_own() -> None:
    model = roughen(build_model("resnet8", num_classes=4))
    model.layer1[0].conv1.weight.data[:3] = 0
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = slim(model, X).model
    for tensor in small.state_dict().values():
        tensor.fill_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
