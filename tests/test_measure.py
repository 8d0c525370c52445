"""FLOPs, parameters and bytes: figures known from elsewhere, and a model left as it was found."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from slimnet.errors import ArgumentError, MeasureError, SlimnetError
from slimnet.measure import Cost, LayerCost, count, paper_flops


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


class Rounded(nn.Module):
    """Two operators nobody counts: FFT is a great deal of arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.fft.fft(x).real)


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        self.body(x)
        raise RuntimeError("no such luck\nand more lines")


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


COUNTED = {
    "convolution, norm, pool, linear": (conv_net, (3, 8, 8), 64 * 9 * 3 * 8 + 40),
    "grouped": (lambda: nn.Conv2d(8, 16, 3, groups=4), (8, 5, 5), 9 * 9 * 2 * 16),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 2, stride=2), (4, 5, 5), 25 * 4 * 6 * 4),
    "linear": (lambda: nn.Linear(10, 3), (10,), 30),
    "norm alone": (lambda: nn.BatchNorm2d(3), (3, 4, 4), 0),
    "padding alone": (lambda: nn.ZeroPad2d(1), (3, 4, 4), 0),
    "attention": (Attention, (2, 7, 4), 2 * 7 * 7 * 8),
}


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("batch", [1, 3])
def test_counts_multiply_adds_of_one_image(name, batch):
    make, shape, expected = COUNTED[name]
    cost = count(make(), torch.zeros(batch, *shape))
    assert cost.flops == expected
    assert cost.unknown == {}


def test_parameters_bytes_and_modules():
    model = conv_net()
    model[2].again = model[6]  # shared: counted once
    cost = count(model.double(), torch.zeros(2, 3, 8, 8, dtype=torch.float64))
    assert cost.params == 8 * 27 + 16 + 45
    assert cost.bytes == 8 * (cost.params + 16) + 8  # running mean and variance; a 64-bit counter
    assert cost.by_module["0"] == 64 * 27 * 8
    assert cost.by_module[""] == cost.flops


def test_several_inputs():
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a @ b.transpose(1, 2)

    assert count(Two(), (torch.zeros(2, 3, 4), torch.zeros(2, 5, 4))).flops == 60


def test_unknown_operators_are_reported_not_zero(caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        cost = count(Rounded(), torch.zeros(1, 8))
    assert cost.flops == 16
    assert cost.unknown == {"aten::fft_fft": 1, "aten::real": 1}
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("failing", [False, True])
def test_leaves_the_model_as_it_was(failing):
    model = Failing() if failing else nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    model.train()
    first = next(iter(model.children()))
    first.eval()
    first.register_forward_hook(lambda *_: None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if failing:
        with pytest.raises(MeasureError, match=r"^Failing does not run on the example: no such luck$"):
            count(model, torch.zeros(2, 4))
    else:
        count(model, torch.zeros(2, 4))
    assert model.training and not first.training
    assert len(first._forward_hooks) == 1
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("example", [torch.zeros(()), torch.zeros(0, 4), [[1.0]]])
def test_refuses_an_example_without_samples(example):
    with pytest.raises(ArgumentError, match="example_inputs"):
        count(nn.Linear(4, 4), example)


def test_cost_survives_json():
    cost = count(Rounded(), torch.zeros(1, 8))
    assert Cost.from_dict(json.loads(json.dumps(cost.as_dict()))) == cost


def cifar_layers(depth: int, rate: float) -> list[LayerCost]:
    """The papers' accounting of an option-A CIFAR ResNet."""

    def conv(name: str, out: int, in_: int, size: int, *, reads_pruned: bool) -> LayerCost:
        live_in = in_ * (1 - rate) if reads_pruned else in_
        return LayerCost(name, 9 * size**2 * out * in_, out, out * (1 - rate), in_, live_in)

    layers, before = [conv("conv1", 16, 3, 32, reads_pruned=False)], 16
    for stage, (width, size) in enumerate([(16, 32), (32, 16), (64, 8)], start=1):
        for block in range((depth - 2) // 6):
            name = f"layer{stage}.{block}"
            layers.append(conv(f"{name}.conv1", width, before, size, reads_pruned=stage == 1 and block == 0))
            layers.append(conv(f"{name}.conv2", width, width, size, reads_pruned=True))
            before = width
    return [*layers, LayerCost("linear", 640, 10, 10, 64, 64)]


PUBLISHED = {
    (20, 0.4): 54.0,
    (32, 0.4): 53.2,
    (56, 0.4): 52.6,
    (110, 0.4): 52.3,
    (20, 0.5): 64.5,
    (32, 0.5): 63.7,
    (56, 0.5): 63.2,
    (110, 0.5): 62.8,
}


@pytest.mark.parametrize(("depth", "rate"), PUBLISHED)
def test_paper_accounting_gives_the_published_figures(depth, rate):
    cost = paper_flops(cifar_layers(depth, rate))
    assert round(100 * cost.saved, 1) == PUBLISHED[depth, rate]
    assert cost.as_dict()["dense"] == cost.dense


def test_resnet56_dense():
    assert paper_flops(cifar_layers(56, 0.0)).dense == 125_485_696
    assert paper_flops(cifar_layers(56, 0.0)).saved == 0


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [LayerCost("a", 10, 4, 5, 4, 4)],
        [LayerCost("a", 10, 4, -1, 4, 4)],
        [LayerCost("a", 9, 0, 0, 1, 1)],
    ],
)
def test_paper_accounting_refuses_nonsense(layers):
    with pytest.raises(SlimnetError):
        paper_flops(layers)


def test_measuring_time_imports_no_torch():
    code = "import sys; import slimnet.measure.latency, slimnet.measure.cost; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
