"""Networks within wrappers, and networks that are stored in other numbers than float32."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import slimnet
from slimnet.errors import ArgumentError, ParityError, SlimnetWarning
from slimnet.onnx.session import open_session

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    """Norms that leave constants, which are folded into biases."""
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(8), nn.BatchNorm2d(8)]
    for norm in norms:
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]
    layers = [nn.Conv2d(3, 8, 3), norms[0], nn.ReLU(), nn.Conv2d(8, 8, 3), norms[1], nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile()
    return model


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DataParallel": nn.DataParallel,
    "torch.compile": torch.compile,  # type: ignore[return-value]
    "DataParallel of torch.compile": lambda model: nn.DataParallel(torch.compile(model)),  # type: ignore[arg-type]
    "module.compile": compiled_in_place,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_are_taken_off(name: str, tmp_path: Path) -> None:
    """Every verb gives what it gives of the network inside."""
    plain = network()
    model = WRAPPERS[name](copy.deepcopy(plain))
    assert [g.name for g in slimnet.channel_groups(model, X)] == [g.name for g in slimnet.channel_groups(plain, X)]
    assert slimnet.count(model, X) == slimnet.count(plain, X)
    slimnet.prune(plain, X, rate=0.5)
    slimnet.prune(model, X, rate=0.5)
    expected, result = slimnet.slim(plain, X), slimnet.slim(model, X)
    assert isinstance(result.model, nn.Sequential)
    assert result.plan == expected.plan
    assert slimnet.export_onnx(result.model, X, tmp_path / "slim.onnx", reference=model).passed
    slimnet.export_onnx(model, X, tmp_path / "masked.onnx", reference=plain)
    inner = result.plan.apply(model)
    assert inner is model


@pytest.mark.parametrize(
    ("kind", "least", "most", "in_onnx"),
    [
        (torch.float32, 1e-12, 1e-6, "tensor(float)"),
        (torch.float16, 1e-6, 2**-6, "tensor(float16)"),
        (torch.bfloat16, 1e-5, 2**-3, "tensor(float)"),
    ],
)
def test_the_gate_follows_the_type(kind: torch.dtype, least: float, most: float, in_onnx: str, tmp_path: Path) -> None:
    """Folded constants are rounded to the numbers that the network is stored in; the reference is compared in float64."""
    model, x, file = network().to(kind), X.to(kind), tmp_path / "net.onnx"
    slimnet.prune(model, x, rate=0.5, mask_norm=False)
    result = slimnet.slim(model, x)
    assert result.plan.folds

    def export(**options: float) -> slimnet.export.ParityReport:  # type: ignore[name-defined]
        return slimnet.export_onnx(result.model, x, file, reference=model, **options)  # type: ignore[arg-type]

    if kind == torch.bfloat16:
        with pytest.warns(SlimnetWarning, match="stored in bfloat16.*exported in float32"):
            report = export()
    else:
        report = export()
    worst = report.worst_of("model vs reference")
    assert least < worst.relative <= worst.tolerance == most
    assert open_session(file).inputs[0].type == in_onnx
    file.unlink()
    with pytest.raises(ParityError, match=r"model vs reference.*nothing was written; `tolerance` allows more\.$"):
        if kind == torch.bfloat16:
            with pytest.warns(SlimnetWarning):
                export(tolerance=least)
        else:
            export(tolerance=least)
    assert not file.exists()


class Normed(nn.Module):
    """Nothing may go: what a LayerNorm mixes, and what an output is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.LayerNorm([8, 10, 10]), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)))  # type: ignore[no-any-return]


def test_a_refusal_carries_its_reasons() -> None:
    with pytest.raises(ArgumentError) as caught:
        slimnet.prune(Normed().eval(), X, rate=0.5)
    text = str(caught.value)
    assert text.startswith("no channel group of this network may be pruned: conv: counts in the mean and variance of LayerNorm (")
    assert "head: output of the network" in text
    with pytest.raises(ArgumentError, match="it has no convolution or linear layer"):
        slimnet.prune(nn.ReLU(), X, rate=0.5)
