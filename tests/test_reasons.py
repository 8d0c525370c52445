"""Why a channel stays: the operation, the module and the line of the network's own code; weights that are used twice."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

import slimnet
from slimnet.errors import GraphError
from slimnet.graph import channel_groups
from slimnet.graph.capture import line_of

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Spatial(nn.Module):
    """Spatial attention: what all channels are on average says which places count."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        return x * self.conv(torch.cat([mean, x.amax(1, keepdim=True)], 1)).sigmoid()


class Unit(nn.Module):
    """L2 norm over channels."""

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x, dim=1)


class Eca(nn.Module):
    """Efficient channel attention: a convolution along the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3))[:, None]
        return x * self.conv(y).sigmoid().transpose(1, 2)[..., None]


class Between(nn.Module):
    """One of these between two convolutions."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.first, self.block, self.last = nn.Conv2d(3, 8, 3, padding=1), block, nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block(self.first(x)))  # type: ignore[no-any-return]


BLOCKS = {
    "spatial attention": (Spatial(), "aten.mean.dim over channels (block, at {here}:", "mean = x.mean(1, keepdim=True)"),
    "L2 norm": (Unit(), "over channels (block, at {here}:", "return normalize(x, dim=1)"),
    "ECA": (Eca(), "(block", None),
    "GroupNorm": (
        nn.GroupNorm(1, 8),
        "counts in the mean and variance of GroupNorm (block, at {here}:",
        "return self.last(self.block(self.first(x)))",
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_reason_names_operation_module_and_line(name: str) -> None:
    block, said, line = BLOCKS[name]
    (reason,) = {group.pinned for group in channel_groups(Between(block).eval(), X) if group.name == "first"}
    here = Path(__file__)
    assert said.format(here=here.name) in reason
    assert str(here.parent) not in reason
    if line is not None:
        number = int(reason.rpartition(":")[2].rstrip(")"))
        assert here.read_text().splitlines()[number - 1].strip().startswith(line)


def test_a_file_is_named_from_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No path of this machine; what a name holds is shown, not obeyed."""
    folder = tmp_path / "secret" / "nets_of_mine" / "deep"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    file = folder / "one\x1b[31m.py"
    file.write_text("from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        return x.cumsum(1) + 1\n")
    spec = importlib.util.spec_from_file_location("nets_of_mine.deep.one", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), module.Net(), nn.Conv2d(4, 2, 1))
    (reason,) = {group.pinned for group in channel_groups(model.eval(), X) if group.name == "0"}
    assert reason == "operator aten.cumsum over channels (1, at nets_of_mine/deep/one\\x1b[31m.py:4)"


def test_no_line_where_nothing_tells() -> None:
    graph = torch.fx.Graph()
    node = graph.placeholder("x")
    assert line_of(node) == ""
    node.meta["stack_trace"] = f'File "{torch.__file__}", line 3, in f\n'
    assert line_of(node) == ""


class Siamese(nn.Module):
    """One trunk for two pictures; norms leave constants, which its second layer folds."""

    def __init__(self, padding: int = 0, *, bias: bool = True, same: bool = True) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.own = nn.BatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 6, 3, padding=padding, bias=bias), nn.Linear(12, 4)
        self.same = same
        for norm in (self.norm, self.own):
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        one = self.second(self.norm(self.first(x)).relu())
        two = self.second((self.norm if self.same else self.own)(self.first(x.flip(3) * 2)).relu())
        return self.head(torch.cat([one.relu().mean((2, 3)), two.relu().mean((2, 3))], 1))  # type: ignore[no-any-return]


def closed(model: nn.Module) -> nn.Module:
    """Half of the filters of the first layer are zero, and what the norm makes of them is positive."""
    layer = model.get_submodule("first")
    with torch.no_grad():
        layer.get_parameter("weight")[:4] = 0
        layer.get_parameter("bias")[:4] = 0
        for name in ("norm", "own"):
            norm = model.get_submodule(name)
            norm.get_parameter("bias")[:4] = torch.tensor([0.5, 1.0, 1.5, 2.0]) * (1 if name == "norm" else 3)
            norm.get_buffer("running_mean")[:4] = 0
    return model.eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_weight_used_twice_folds_constants_that_are_the_same(padding: int, bias: bool) -> None:
    """Once for both; past zero padding, one channel carries them."""
    torch.manual_seed(0)
    model = closed(Siamese(padding, bias=bias))
    result = slimnet.slim(model, X)
    assert result.report.verification.worst < 1e-12
    assert len(result.plan.folds) == 1
    (group,) = (each for each in result.plan.groups if each.name == "first")
    assert len(group.kept) == (4 if padding == 0 else 5)


def test_where_constants_differ_the_reason_says_so() -> None:
    torch.manual_seed(0)
    result = slimnet.slim(closed(Siamese(same=False)), X)
    (group,) = (each for each in result.plan.groups if each.name == "first")
    assert len(group.kept) == 8
    assert group.reasons == {"constant, but second.weight is used twice and reads other constants there": 4}


class SharedWeight(nn.Module):
    """One weight with a bias for each use."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.own = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.one, self.other, self.head = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 1), nn.Linear(12, 4)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        both = [self.one(self.norm(x).relu()), self.other(self.own(x).relu())]
        return self.head(torch.cat([each.mean((2, 3)) for each in both], 1))  # type: ignore[no-any-return]


def test_a_weight_with_a_bias_for_each_use_folds_other_constants_into_each() -> None:
    torch.manual_seed(0)
    result = slimnet.slim(closed(SharedWeight()), X)
    assert {fold.bias for fold in result.plan.folds} == {"one.bias", "other.bias"}
    assert len({fold.constants for fold in result.plan.folds}) == 2
    (group,) = (each for each in result.plan.groups if each.name == "first")
    assert len(group.kept) == 4


def test_a_plan_for_a_weight_used_twice_fits_a_fresh_copy() -> None:
    torch.manual_seed(0)
    model = closed(Siamese(1))
    result = slimnet.slim(model, X)
    again = slimnet.Plan.from_dict(result.plan.as_dict()).apply(closed(Siamese(1)))
    again.load_state_dict(result.model.state_dict())
    torch.testing.assert_close(again.eval()(X), model(X), rtol=1e-5, atol=1e-6)
    with pytest.raises(GraphError):
        channel_groups(model, torch.randn(2, 5, 12, 12))
