"""Small networks as users write them: shut branches, odd numbers, inputs and outputs, optimizers, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import slimnet
from slimnet.commands import slim_checkpoint
from slimnet.errors import ArgumentError, GraphError, SurgeryError, VerificationError
from slimnet.surgery import Plan, slim
from test_surgery import roughen
from written_networks import carried, written, x


class Shut(nn.Module):
    """A residual branch that adds a constant, and one of the things that somebody may do with its layers."""

    def __init__(self, kind: str = "plain") -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b, self.c = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 4, padding="same"),
            nn.Conv2d(8, 8, 4, padding="same"),
        )
        self.again = self.c
        self.head = nn.Conv2d(8, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x))
        inner = F.relu(self.b(y))
        match self.kind:
            case "in place":
                return self.head(self.c(inner).add_(y))
            case "weights read":
                return self.head(y + self.c(inner) + self.b.weight.sum())
            case "attribute read":
                return self.head(y.to(self.b.weight.dtype) + self.c(inner))
            case "two names":
                return self.head(self.again(torch.sigmoid(y + self.c(inner))))
            case _:
                return self.head(y + self.c(inner))


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("kind", ["plain", "in place", "weights read", "attribute read", "two names"])
def test_branches_that_are_shut_down(kind: str, expand: bool) -> None:
    torch.manual_seed(0)
    model = roughen(Shut(kind))
    model.a.weight.data[:3] = 0
    model.c.weight.data.zero_()
    result = slim(model, x(), expand=expand)
    assert result.report.verification.worst <= 1e-12
    assert bool(result.plan.shuts) == (kind not in ("attribute read", "two names"))


def test_what_a_plan_puts_in_is_where_the_weights_are() -> None:
    for plan in (_shut_plan(), _expanded_plan()):
        with torch.device("meta"):
            fresh = Shut()
        assert all(tensor.is_meta for tensor in (*plan.apply(fresh).parameters(), *fresh.buffers()))
        assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan


def _shut_plan() -> Plan:
    model = roughen(Shut())
    model.c.weight.data.zero_()
    return slim(model, x()).plan


def _expanded_plan() -> Plan:
    model = roughen(Shut())
    model.c.weight.data[:3] = 0
    plan = slim(model, x(), expand=True).plan
    assert plan.expansions
    return plan


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_kinds_of_numbers(kind: torch.dtype) -> None:
    result = slim(written(carried, "a b").to(kind), x().to(kind))
    assert result.report.removed == 8 and result.report.verification.worst <= 1e-12
    assert all(parameter.dtype == kind for parameter in result.model.parameters())


def test_a_network_that_insists_on_float32_is_verified_in_float32() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        assert x.dtype == torch.float32
        out: Tensor = m.head(torch.sigmoid(m.a(x)))
        return out

    result = slim(written(forward), x())
    assert result.report.removed == 4
    assert {check.precision for check in result.report.verification.checks} == {"own"}


@pytest.mark.parametrize(
    "between",
    [
        lambda x: (1.5 * x.float()).to(x.dtype),
        lambda x: x.half().float(),
        lambda x: F.softmax(x, 2, dtype=torch.float32),
        lambda x: x + torch.linspace(0, 1, x.shape[3]),
        lambda x: x * torch.ones(x.shape[2:], dtype=torch.float32),
        lambda x: F.grid_sample(x, torch.zeros(len(x), 6, 6, 2), align_corners=False),
    ],
)
def test_what_a_network_casts_to_float32_is_compared_in_float64(between: Callable[[Tensor], Tensor]) -> None:
    """Its rounding is no difference between two networks."""
    result = slim(written(lambda m, x: m.head(between(torch.sigmoid(m.a(x))))), x())
    assert {check.precision for check in result.report.verification.checks} == {"float64"}
    assert result.report.verification.worst <= 1e-12
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    "output",
    [
        lambda y, x: y > 0,
        lambda y, x: (y, y.argmax(1), None, {"rest": [y.mean()]}),
        lambda y, x: (y, x[:0]),
        lambda y, x: y.masked_fill(x < 0, float("-inf")),
    ],
)
def test_odd_outputs_are_compared(output: Callable[[Tensor, Tensor], Any]) -> None:
    assert slim(written(lambda m, x: output(m.head(F.relu(m.a(x))), x)), x()).report.removed == 4


def test_more_inputs_than_one() -> None:
    model = written(lambda m, x, mask, vector: m.head(F.relu(m.a(x)).masked_fill(mask, 0.0)) + m.line(vector)[..., None, None],
                    line=nn.Linear(5, 3))  # fmt: skip
    shapes = [check.shape for check in slim(model, (x(), x(2, 1, 12, 12) > 0, x(2, 5))).report.verification.checks]
    assert (2, 3, 20, 20) in shapes


def test_one_dimension_is_checked_at_two_sizes_too() -> None:
    model = roughen(nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.Sigmoid(), nn.Conv1d(8, 3, 3, padding=1)))
    model[0].weight.data[:5] = 0
    assert (2, 3, 20) in {check.shape for check in slim(model, x(2, 3, 12)).report.verification.checks}


def test_random_inputs_that_a_network_is_not_defined_for_are_left_out() -> None:
    result = slim(written(lambda m, x: m.head(F.relu(m.a(torch.log(x))))), x().abs() + 0.1)
    assert result.report.removed == 4


def always_dropped(m: Any, x: Tensor) -> Any:
    return m.head(F.dropout(F.relu(m.a(x)), 0.5, training=True))


def of_nan(m: Any, x: Tensor) -> Any:
    return m.head(F.relu(m.a(x))) * float("nan")


@pytest.mark.parametrize(
    ("make", "inputs", "error", "message"),
    [
        (lambda: written(always_dropped), x(), VerificationError, "another output each time"),
        (lambda: written(of_nan), x(), VerificationError, "^the network itself gives NaN"),
        (lambda: written(carried).to("meta"), x(), GraphError, "no values"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), x(), GraphError, "not initialised"),
        (lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3))), x(), GraphError, "torch.jit"),
        (lambda: written(carried), x()[:0], ArgumentError, "without entries"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_refused_in_one_line(make: Callable[[], nn.Module], inputs: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        slim(make(), inputs)
    assert "\n" not in str(raised.value)


NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm": nn.utils.parametrizations.weight_norm,
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "old weight norm": nn.utils.weight_norm,
    "old spectral norm": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.filterwarnings("ignore")
def test_weights_that_torch_computes(name: str) -> None:
    """They are written out; the model itself, in training mode here, is left as it was."""
    model = written(carried)
    NORMS[name](model.b)
    model.train()(x())
    expected = model.eval()(x())
    model.train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    result = slim(model, x())
    assert result.report.removed == 4 and result.report.verification.worst <= 1e-12
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert model.training and torch.equal(model.eval()(x()), expected)
    assert not dict(result.model.b.named_modules()).get("parametrizations")
    assert type(result.model.b.weight) is nn.Parameter and not result.model.b._forward_pre_hooks


@pytest.mark.parametrize("kind", ["plain", "mask", "weight norm"])
def test_the_optimizer_holds_what_the_slim_model_trains(kind: str) -> None:
    model = written(lambda m, x: m.head(torch.sigmoid(m.point(torch.sigmoid(m.a(x))))), point=nn.Conv2d(8, 8, 1, bias=False))
    if kind == "mask":
        nn.utils.prune.ln_structured(model.point, "weight", 2, 2, 0)
    if kind == "weight norm":
        nn.utils.parametrizations.weight_norm(model.point)
    model.head.requires_grad_(False)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    first, rest = [item for item in named if item[0].startswith("a.")], [item for item in named if not item[0].startswith("a.")]
    optimizer = torch.optim.Adam([{"params": first, "lr": 0.1}, {"params": rest, "lr": 0.2}])
    model(x()).sum().backward()
    optimizer.step()
    model.a.weight.data[:5] = 0
    small = slim(model, x(), optimizer=optimizer).model
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {"a.weight", "a.bias", "point.weight", "point.bias"} <= {n for n, p in small.named_parameters() if id(p) in held}
    assert "head.weight" not in {n for n, p in small.named_parameters() if id(p) in held}
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    assert optimizer.param_groups[0]["param_names"] == ["a.weight", "a.bias"]
    assert all(optimizer.state[p]["exp_avg"].shape == p.shape for p in optimizer.state)
    assert (small.point.weight in optimizer.state) == (kind != "weight norm")
    small(x()).sum().backward()
    optimizer.step()


def test_an_optimizer_of_another_model_is_refused_before_anything_changes() -> None:
    model = written(carried)
    optimizer = torch.optim.SGD([*model.parameters(), *nn.Linear(2, 2).parameters()], lr=0.1)
    before = [id(p) for p in optimizer.param_groups[0]["params"]]
    with pytest.raises(SurgeryError, match="optimiser"):
        slim(model, x(), optimizer=optimizer)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == before


@pytest.mark.parametrize("align", [2, 3, 4])
def test_alignment_holds_with_carriers(align: int) -> None:
    model = written(lambda m, x: m.head(torch.sigmoid(m.c(torch.sigmoid(m.b(torch.sigmoid(m.a(x))))))), "a b")
    model.head.weight.data[:, :4] = 0  # four channels of c are never read, and read constants
    result = slim(model, x(), align=align)
    assert result.report.verification.worst <= 1e-12
    assert all(len(group.kept) % align == 0 or len(group.kept) == 8 for group in result.plan.groups if group.name != "head")


def factory(num_classes: int = 3, in_channels: int = 3) -> nn.Module:
    """A network for the command line; one of its layers has a weight norm."""
    model = Shut()
    nn.utils.parametrizations.weight_norm(model.b)
    return model


@pytest.mark.parametrize("expand", [False, True])
def test_a_checkpoint_of_a_factory_comes_back(expand: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = roughen(factory())
    model.a.weight.data[:4] = 0
    model.c.weight.data[: 3 if expand else 8] = 0
    torch.save(model.state_dict(), tmp_path / "net.pth")
    network = {"model": "test_surgery_adversarial:factory", "num_classes": 3, "in_channels": 3, "image_size": 12}
    slim_checkpoint(tmp_path / "net.pth", tmp_path / "out", expand=expand, **network)
    small = slimnet.load_slim(tmp_path / "out", trust_code=network["model"])
    with torch.no_grad():
        assert float((small(x()) - model(x())).abs().max()) < 1e-5
    assert small.a.out_channels < 8


@pytest.mark.parametrize("couple", ["stream", "none"])
def test_fixed_blurs_are_cut_but_not_scored(couple: Any) -> None:
    model = written(lambda m, x: m.head(F.relu(F.conv2d(y := m.a(x), m.blur, groups=y.shape[1]))))
    slimnet.prune(model, x(), rate=0.5, couple=couple)
    plan = slim(model, x()).plan
    assert {g.name: (g.closed, len(g.kept)) for g in plan.groups}["a"] == (5, 4)
