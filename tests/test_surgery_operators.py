"""Surgery over what a forward pass may do with channels: removed exactly, or kept with a reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from slimnet.surgery import slim
from written_networks import Forward, reasons, written, x


def read_before_the_change(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    view = y[:, :, 1:]
    F.relu_(y)
    return m.head(view)


def turned_before_the_change(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    view = y.transpose(2, 3)
    y.sigmoid_()
    return m.head(view)


def a_part_is_changed(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    y.chunk(2, 2)[0].relu_()
    return m.head(y)


def excited(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    n, c, _, _ = y.size()
    gate = torch.sigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(y, 1).view(n, c))))).view(n, c, 1, 1)
    return m.head(y * gate.expand_as(y))


def attended(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x) - 0.7)
    return m.head(y * torch.sigmoid(m.one(y)).expand_as(y))


def pooled_twice(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    return m.end(torch.cat([F.adaptive_avg_pool2d(y, 1), F.adaptive_max_pool2d(y, 1)], 1).flatten(1))


# what a network does, the layers with zero filters, other modules, channels removed at least
REMOVES: dict[str, tuple[Forward, str, dict[str, nn.Module], int]] = {
    "expand_as gate": (excited, "a up", {"down": nn.Linear(8, 4), "up": nn.Linear(4, 8)}, 4),
    "expand_as map": (attended, "a", {"one": nn.Conv2d(8, 1, 3, padding=1)}, 1),
    "scale seen as an image": (lambda m, x: m.head(F.relu(m.a(x)) * m.scale.view(1, -1, 1, 1)), "a", {}, 4),
    "scale indexed": (lambda m, x: m.head(F.relu(m.a(x)) * m.scale[:, None, None]), "a", {}, 4),
    "frozen norm": (lambda m, x: m.head(torch.sigmoid(m.norm(m.a(x)))), "a", {"norm": FrozenBatchNorm2d(8)}, 4),
    "where": (lambda m, x: m.head(torch.where((y := m.a(x)) > 0, y, 0.5)), "a", {}, 4),
    "masked fill": (lambda m, x: m.head((y := m.a(x)).masked_fill(y < 0, 0.25)), "a", {}, 4),
    "crop": (lambda m, x: m.head(F.pad(torch.sigmoid(m.a(x)), (-1, -1, -1, -1))), "a", {}, 4),
    "bicubic": (lambda m, x: m.head(F.interpolate(torch.sigmoid(m.a(x)), scale_factor=2.0, mode="bicubic")), "a", {}, 4),
    "two pools": (pooled_twice, "a", {"end": nn.Linear(16, 3)}, 5),
    "foreign function": (
        lambda m, x: m.head(F.conv2d(torch.sigmoid(m.a(x)), m.point.weight)),
        "a",
        {"point": nn.Conv2d(8, 8, 1)},  # its bias is not used: constants must not go there
        4,
    ),
}


@pytest.mark.parametrize("name", REMOVES)
def test_removed(name: str) -> None:
    forward, zero, modules, count = REMOVES[name]
    result = slim(written(forward, zero, **modules), x())
    assert result.report.verification.worst <= 1e-12
    assert result.report.removed >= count


# what a network does, other modules, a part of the reason why all channels of ``a`` stay
KEEPS: dict[str, tuple[Forward, dict[str, nn.Module], str]] = {
    "view read before": (read_before_the_change, {}, "in place"),
    "view turned before": (turned_before_the_change, {}, "in place"),
    "view of a part": (a_part_is_changed, {}, "in place"),
    "places": (lambda m, x: m.head(torch.sigmoid(m.a(x)) + m.places), {}, "places has more than one wide dimension"),
    "made numbers": (lambda m, x: m.head(torch.sigmoid(m.a(x)) * torch.arange(8.0).view(1, 8, 1, 1)), {}, "arange"),
    "pool over channels": (lambda m, x: m.end(F.avg_pool2d(m.a(x).flatten(2), (3, 1), 1, (1, 0)).mean(2)),
                           {"end": nn.Linear(8, 3)}, "avg_pool2d"),
    "sum over places": (lambda m, x: m.end(torch.sigmoid(m.a(x)).sum((2, 3))), {"end": nn.Linear(8, 3)}, ""),
    "tied to its own transpose": (lambda m, x: m.head(m.a(x)) + F.linear(F.linear(x, m.line.weight), m.line.weight.t()),
                                  {"line": nn.Linear(12, 12)}, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", KEEPS)
def test_kept(name: str) -> None:
    forward, modules, reason = KEEPS[name]
    result = slim(written(forward, **modules), x())
    assert result.report.verification.worst <= 1e-12
    assert reason in reasons(result)
    if reason:
        assert {g.name: len(g.kept) for g in result.plan.groups}["a"] == 8


def test_products_within_an_operator_are_not_its_value() -> None:
    """``addcmul(a, b, c)`` is not zero where b is."""
    model = written(lambda m, x: m.head(torch.addcmul(y := m.a(x), F.relu(m.b(y)), m.c(y))), "b")
    model.b.bias.data.fill_(-1.0)
    assert slim(model, x()).report.verification.worst <= 1e-12


def test_a_weight_that_an_unknown_operator_uses_is_not_cut() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.line, self.head = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 20)
            self.head.weight = self.embed.weight

        def forward(self, words: Tensor) -> Tensor:
            return self.head(F.relu(self.line(self.embed(words))))

    model = Words().eval()
    model.line.weight.data[:5] = 0
    result = slim(model, torch.arange(10).reshape(2, 5))
    assert "embed.weight is also used by operator aten.embedding" in reasons(result)


def test_an_image_without_a_batch_is_left_alone() -> None:
    model = written(lambda m, x: m.head(F.relu(m.a(x))))
    assert slim(model, x(3, 12, 12)).report.removed == 0


def counted(m: Any, x: Tensor) -> Any:
    return m.end(F.adaptive_avg_pool2d(F.relu(m.b(F.relu(m.a(x)))), 1).view(-1, 8))


def asserted(m: Any, x: Tensor) -> Any:
    y = F.relu(m.a(x))
    assert y.shape[1] == 8
    return m.head(F.relu(m.b(y)))


@pytest.mark.parametrize(("forward", "fixed"), [(counted, "b"), (asserted, "a")])
def test_channels_that_the_code_counts_stay(forward: Forward, fixed: str) -> None:
    """Cut, the network would not run; the other groups shrink all the same."""
    result = slim(written(forward, "a b", end=nn.Linear(8, 3)), x())
    groups = {group.name: group for group in result.plan.groups}
    assert len(groups[fixed].kept) == 8 and next(iter(groups[fixed].reasons)).startswith("the network's own code counts")
    assert len(groups["a" if fixed == "b" else "b"].kept) < 8


class Own(nn.Module):
    """A convolution of somebody's own, with names of its own, or with weights that are not parameters."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        weight = torch.rand(8, 8, 3, 3) - 0.5
        weight[:4] = 0
        offset = torch.rand(8) if kind in ("names", "buffers and a bias") else None
        if kind.startswith("buffers"):
            self.register_buffer("kernel", weight)
            self.register_buffer("offset", offset)
        else:
            self.kernel, self.offset = nn.Parameter(weight), None if offset is None else nn.Parameter(offset)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, self.offset)


@pytest.mark.parametrize("kind", ["names", "no bias", "buffers", "buffers and a bias"])
def test_a_convolution_of_ones_own(kind: str) -> None:
    """Constants go into the bias that is there; where the layer takes none, a channel carries them."""
    result = slim(written(lambda m, x: m.head(torch.sigmoid(m.own(torch.sigmoid(m.a(x))))), own=Own(kind)), x())
    assert result.report.verification.worst <= 1e-12
    assert result.report.removed >= 7
    kept = {g.name: len(g.kept) for g in result.plan.groups}
    assert kept["a"] == (3 if kind in ("names", "buffers and a bias") else 4)


def test_a_bias_that_two_layers_share_takes_no_constants() -> None:
    model = written(lambda m, x: m.p(torch.sigmoid(m.a(x))) + m.q(x), p=nn.Conv2d(8, 4, 1), q=nn.Conv2d(3, 4, 1))
    model.q.bias = model.p.bias
    result = slim(model, x())
    assert result.report.verification.worst <= 1e-12 and result.report.removed == 4


class ScaledNorm(nn.Module):
    """A layer norm of which the scale is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.head = nn.Linear(4, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.randn(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normal = torch.nn.functional.layer_norm(self.linear(x), (8,), 1 + self.scale)
        return self.head(normal)


def test_the_computed_scale_of_a_layer_norm_stays_with_it() -> None:
    """It was taken for channels that nobody reads, and cut down to one."""
    model = ScaledNorm().eval()
    with torch.no_grad():
        model.linear.weight[:3] = 0
    result = slim(model, torch.randn(2, 4))
    assert [len(group.kept) for group in result.plan.groups] == [8, 3]


class Standardised(nn.Conv2d):
    """A weight that is standardised in the forward pass, by a batch norm with a computed scale."""

    def __init__(self) -> None:
        super().__init__(3, 8, 3)
        self.gain = nn.Parameter(torch.ones(8, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, weight=(self.gain * 0.5).view(-1), training=True, momentum=0.0)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias)


def test_a_scale_that_is_computed_stays_as_wide_as_what_it_scales() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Standardised(), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    model[0].weight.data[:4] = 0
    result = slim(model, torch.randn(2, 3, 8, 8))
    assert result.model[0].gain.shape == (8, 1, 1, 1)
    assert result.report.verification.worst <= 1e-12


@pytest.mark.parametrize(
    "between",
    [
        lambda m, x: (x * m.turn).abs(),
        lambda m, x: (x * m.turn + 1j).imag,
        lambda m, x: (x * 2j).imag,
        lambda m, x: torch.view_as_real(torch.view_as_complex(torch.stack([x, -x], -1).contiguous()) * m.turn).sum(-1),
        lambda m, x: torch.fft.irfft2(torch.fft.rfft2(x) * m.turn, s=x.shape[2:]),
    ],
)
def test_complex_numbers(between: Forward) -> None:
    """Of a factor without a real part the rest counts, in the analysis and where networks are compared."""
    model = written(lambda m, x: m.head(between(m, torch.sigmoid(m.a(x)))), "a").double()
    model.register_parameter("turn", nn.Parameter(torch.complex(torch.zeros(1), torch.ones(1)).to(torch.complex128)))
    result = slim(model, x().double())
    assert result.report.verification.worst <= 1e-12
    for size in (12, 13):
        given = x(1, 3, size, size).double()
        torch.testing.assert_close(result.model(given), model(given), rtol=1e-9, atol=1e-12)


def test_an_input_of_complex_numbers() -> None:
    """It is compared in float64 on random ones with an imaginary part."""
    model = written(lambda m, x: m.head(torch.sigmoid(m.a(x.real + 2 * x.imag))), "a")
    given = torch.complex(x(), -x())
    result = slim(model, given)
    assert result.report.removed == 4
    assert {check.precision for check in result.report.verification.checks} == {"float64"}
    torch.testing.assert_close(result.model(given), model(given))
