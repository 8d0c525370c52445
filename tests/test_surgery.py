"""Surgery: removing channels equals masking them, for any mask."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slimnet.errors import ArgumentError, FileFormatError, SurgeryError, VerificationError
from slimnet.graph import channel_groups
from slimnet.methods.closing import prune
from slimnet.models import build_model
from slimnet.surgery import Plan, find, slim
from slimnet.surgery.plan import from_ranges, to_ranges


class Net(nn.Module):
    """A network with one of the features of the table below between two convolutions."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        mode = {"reflect": "reflect", "circular": "circular", "replicate": "replicate"}.get(kind, "zeros")
        self.a, self.na = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.b, self.nb = nn.Conv2d(8, 8, 3, padding=1, bias=False, padding_mode=mode), nn.BatchNorm2d(8)
        self.unpadded, self.point = nn.Conv2d(8, 8, 3, bias=False), nn.Conv2d(8, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.wide = nn.Conv2d(16, 8, 3, padding=1)
        self.transposed = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.slope, self.instance = nn.PReLU(8), nn.InstanceNorm2d(8, affine=True)
        self.hidden, self.head = nn.Linear(8 * 16, 12), nn.Linear(12, 5)
        self.scale = nn.Parameter(torch.rand(8, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(F.relu(self.na(self.a(x))))
        return self.head(F.relu(self.hidden(F.adaptive_avg_pool2d(x, 4).flatten(1))))

    def middle(self, x: Tensor) -> Tensor:
        match self.kind:
            case "unpadded":
                return F.relu(self.unpadded(x))
            case "point":
                return F.silu(self.point(x))
            case "depthwise":
                return F.relu6(self.point(F.relu6(self.depthwise(x))))
            case "concatenated":
                return F.relu(self.wide(torch.cat([x, F.gelu(self.b(x))], 1)))
            case "residual":
                return F.relu(self.nb(self.b(x)) + x)
            case "gated":
                gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
                return F.relu(self.b(x * gate))
            case "max pool":
                return F.relu(self.b(F.max_pool2d(x, 3, 2, 1)))
            case "average pool":
                return F.relu(self.b(F.avg_pool2d(x, 2)))
            case "padded average pool":
                return F.relu(self.b(F.avg_pool2d(x, 3, 2, 1)))
            case "transposed":
                return F.relu(self.transposed(self.b(x)))
            case "sigmoid":
                return self.b(torch.sigmoid(x))
            case "prelu":
                return F.relu(self.b(self.slope(self.nb(x))))
            case "instance norm":
                return F.relu(self.b(self.instance(x)))
            case "scaled":
                return F.relu(self.b(x * self.scale))
            case "spatial pad":
                return F.relu(self.unpadded(F.pad(x, (1, 1, 1, 1))))
            case "no effect":
                return F.relu(self.nb(self.b(x)) * 0 + x)
            case "dropout":
                return F.relu(self.b(F.dropout(x, 0.5, self.training)))
            case _:
                return F.relu(self.nb(self.b(x)))


KINDS = (
    "padded", "reflect", "circular", "replicate", "unpadded", "point", "depthwise", "concatenated", "residual", "gated",
    "max pool", "average pool", "padded average pool", "transposed", "sigmoid", "prelu", "instance norm", "scaled",
    "spatial pad", "no effect", "dropout",
)  # fmt: skip


def roughen(model: nn.Module) -> nn.Module:
    """Norms and biases that are not at their initial values: a closed filter leaves a constant behind."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.dim() == 1 and tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator) * 0.8
            tensor.data.copy_(noise + 0.3 if name.endswith(("var", "weight")) else noise - 0.3)
    return model.eval()


def zero_filters(model: nn.Module, share: float = 0.5) -> None:
    """Close a share of the filters of every convolution and hidden linear layer, each layer for itself; norms stay live."""
    generator = torch.Generator().manual_seed(2)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and name not in ("head", "linear"):
            weight = module.weight.data.movedim(1, 0) if isinstance(module, nn.ConvTranspose2d) else module.weight.data
            chosen = torch.randperm(len(weight), generator=generator)[: int(share * len(weight))]
            weight[chosen] = 0


@pytest.mark.parametrize("kind", KINDS)
def test_removed_equals_masked(kind: str) -> None:
    torch.manual_seed(0)
    model = roughen(Net(kind))
    zero_filters(model)
    before = copy.deepcopy(model.state_dict())
    result = slim(model, torch.randn(2, 3, 16, 16))
    assert result.report.verification.worst <= 1e-12
    assert result.report.removed > 0
    assert {check.shape for check in result.report.verification.checks} >= {(1, 3, 16, 16), (3, 3, 16, 16), (2, 3, 24, 24)}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert type(result.model) is type(model) and not any(m._forward_hooks for m in result.model.modules())
    assert all(p.requires_grad for p in result.model.parameters())
    for module in result.model.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (module.out_channels, module.in_channels // module.groups)


def test_coupled_masks_go_entirely() -> None:
    model = roughen(build_model("resnet20", num_classes=10))
    prune(model, torch.randn(2, 3, 32, 32), rate=0.5)
    result = slim(model, torch.randn(2, 3, 32, 32))
    assert result.report.removed == result.report.closed == 3 * (8 + 16 + 32) + 8 + 8 + 16
    assert result.model.conv1.out_channels == 8 and result.model.layer3[2].conv2.out_channels == 32
    assert not any(group.reasons for group in result.plan.groups)
    assert not result.plan.folds


def test_a_channel_of_a_stream_stays_while_one_layer_adds_to_it() -> None:
    model = roughen(build_model("resnet20", num_classes=10))
    prune(model, torch.randn(2, 3, 32, 32), rate=0.5, couple="none", mask_norm=False)
    result = slim(model, torch.randn(2, 3, 32, 32))
    reasons = {reason for group in result.plan.groups for reason in group.reasons}
    assert "zero in only some of the layers that add to it" in reasons
    assert result.report.verification.worst <= 1e-12


def test_a_carrier_takes_constants_past_zero_padding() -> None:
    torch.manual_seed(0)
    model = roughen(Net("padded"))
    model.a.weight.data[:4] = 0
    plan = slim(model, torch.randn(2, 3, 16, 16)).plan
    carried = [fold for fold in plan.folds if fold.carrier >= 0]
    assert len(carried) == 1 and carried[0].weight == "b.weight"
    group = next(group for group in plan.groups if group.name == "a")
    assert len(group.kept) == 5
    assert group.reasons == {"carries the constants of removed channels past zero padding": 1}


def test_without_its_carrier_the_cut_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = roughen(Net("padded"))
    model.a.weight.data[:4] = 0
    monkeypatch.setattr(find.Search, "_add_carriers", lambda self: False)
    with pytest.raises((VerificationError, SurgeryError)):
        slim(model, torch.randn(2, 3, 16, 16))


@pytest.mark.parametrize("masked", [-1e12, torch.finfo(torch.float32).min])
def test_a_masked_score_does_not_hide_a_wrong_cut(monkeypatch: pytest.MonkeyPatch, masked: float) -> None:
    class Masked(Net):
        def forward(self, x: Tensor) -> Tensor:
            scores = super().forward(x)
            return torch.cat([scores, torch.full_like(scores, masked)], 1)

    torch.manual_seed(0)
    model = roughen(Masked("padded"))
    model.a.weight.data[:4] = 0
    monkeypatch.setattr(find.Search, "_add_carriers", lambda self: False)
    with pytest.raises(VerificationError, match=r"differs on given input .* relative error"):
        slim(model, torch.randn(2, 3, 16, 16))


def test_a_sum_of_zero_is_not_zero() -> None:
    model = roughen(Net("padded"))
    model.a.weight.data[0] = 0
    model.a.weight.data[0, 0, 0, 0], model.a.weight.data[0, 0, 0, 1] = 1.0, -1.0
    assert slim(model, torch.randn(2, 3, 16, 16)).report.closed == 0


def test_channels_that_nobody_reads_go_with_all_that_makes_them() -> None:
    torch.manual_seed(0)
    model = roughen(Net("padded"))
    model.hidden.weight.data[:, : 16 * 4] = 0  # the first four channels behind b
    plan = slim(model, torch.randn(2, 3, 16, 16)).plan
    assert {group.name: len(group.kept) for group in plan.groups}["b"] == 4


@pytest.mark.parametrize("kind", ["padded", "residual", "gated", "concatenated"])
def test_a_layer_that_closes_entirely_does_not_crash(kind: str) -> None:
    model = roughen(Net(kind))
    for layer in (model.a, model.b, model.squeeze):
        layer.weight.data.zero_()
    assert slim(model, torch.randn(2, 3, 16, 16)).report.verification.worst <= 1e-12


def test_align_keeps_closed_channels() -> None:
    model = roughen(build_model("resnet20", num_classes=10))
    prune(model, torch.randn(2, 3, 32, 32), rate=0.4)
    widths = {len(group.kept) for group in slim(model, torch.randn(2, 3, 32, 32), align=4).plan.groups if group.name != "linear"}
    assert widths and all(width % 4 == 0 for width in widths)
    with pytest.raises(ArgumentError, match="align"):
        slim(model, torch.randn(2, 3, 32, 32), align=0)


def test_a_plan_repeats_the_cut_on_a_fresh_copy(tmp_path: Path) -> None:
    model = roughen(build_model("resnet20", num_classes=10))
    prune(model, torch.randn(2, 3, 32, 32), rate=0.5, mask_norm=False)
    result = slim(model, torch.randn(2, 3, 32, 32))
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(result.plan.as_dict()))
    plan = Plan.from_dict(json.loads(file.read_text()))
    assert plan == result.plan
    again = plan.apply(copy.deepcopy(model))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in result.model.state_dict().items())
    with torch.device("meta"):
        rebuilt = plan.apply(build_model("resnet20", num_classes=10))
    rebuilt.load_state_dict(result.model.state_dict(), assign=True)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(rebuilt.eval()(x), result.model.eval()(x))
    with pytest.raises(SurgeryError, match="another network"):
        plan.apply(build_model("resnet8", num_classes=10))


def test_ranges() -> None:
    for indices in ((), (3,), (0, 1, 2), (0, 2, 3, 4, 9)):
        assert from_ranges(to_ranges(indices), 1000) == indices
    assert to_ranges((0, 1, 2, 5)) == "0-2,5"


@pytest.mark.parametrize(
    "broken", [{}, {"version": 99}, {"version": 1}, {"version": 1, "groups": 3, "cuts": [], "folds": [], "moves": []}]
)
def test_a_malformed_plan_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(FileFormatError, match="plan"):
        Plan.from_dict(broken)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_the_optimizer_comes_along(kind: str) -> None:
    """One more step of the small model gives the function that one more step of the masked one gives."""
    torch.manual_seed(0)
    model = roughen(build_model("resnet8", num_classes=10)).double()
    x, y = torch.randn(8, 3, 16, 16).double(), torch.randint(0, 10, (8,))
    make = torch.optim.SGD if kind == "sgd" else torch.optim.Adam
    options = {"lr": 0.01, "momentum": 0.9} if kind == "sgd" else {"lr": 0.01}
    optimizer = make(model.parameters(), **options)  # type: ignore[arg-type]
    mask = prune(model, x, rate=0.5)

    def step(net: nn.Module, opt: torch.optim.Optimizer, masked: bool) -> None:
        opt.zero_grad()
        F.cross_entropy(net(x), y).backward()
        if masked:
            mask.mask_gradients()
        opt.step()
        if masked:
            mask.enforce()

    step(model, optimizer, masked=True)
    step(model, optimizer, masked=True)
    small_optimizer = make(model.parameters(), **options)  # type: ignore[arg-type]
    small_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    small = slim(model, x, optimizer=small_optimizer).model
    step(model, optimizer, masked=True)
    step(small, small_optimizer, masked=False)
    with torch.no_grad():
        assert float((model(x) - small(x)).abs().max()) < 1e-12


def test_masks_of_torch_prune_are_baked_in() -> None:
    from torch.nn.utils import prune as torch_prune

    torch.manual_seed(0)
    model = roughen(Net("padded"))
    torch_prune.ln_structured(model.a, "weight", amount=4, n=2, dim=0)
    result = slim(model, torch.randn(2, 3, 16, 16))
    assert result.model.a.out_channels == 5  # four live and a carrier
    assert hasattr(model.a, "weight_mask") and not hasattr(result.model.a, "weight_mask")


def test_groups_are_named_by_the_layer_that_makes_them() -> None:
    names = [group.name for group in channel_groups(Net("padded"), torch.randn(2, 3, 16, 16))]
    assert names[:3] == ["input", "a", "b"]
