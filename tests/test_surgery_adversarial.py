"""Small networks as users write them: removed equals masked, and what must stay stays with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from slimnet.surgery import SlimResult, slim
from test_surgery import roughen

Forward = Callable[["Written", Tensor], Any]


class Written(nn.Module):
    """Convolutions a, b, c of eight channels and a head, and a forward pass as given."""

    def __init__(self, forward: Forward, **modules: nn.Module) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b, self.c = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 3, padding=1)
        for name, module in modules.items():
            setattr(self, name, module)
        self.scale, self.places = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(1, 8, 12, 12))
        self.register_buffer("blur", torch.rand(8, 1, 3, 3))
        self.written = forward

    def forward(self, x: Tensor, *more: Tensor) -> Any:
        return self.written(self, x, *more)


def written(forward: Forward, zero: str = "a", **modules: nn.Module) -> Written:
    """The network in eval mode with live norms and biases; five of eight filters of the layers in ``zero`` are zero."""
    torch.manual_seed(0)
    model = Written(forward, **modules)
    roughen(model)
    for name in zero.split():
        model.get_parameter(f"{name}.weight").data[:5] = 0
    return model


def x(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 12, 12)), generator=torch.Generator().manual_seed(0))


def reasons(result: SlimResult) -> str:
    return "; ".join(reason for group in result.plan.groups for reason in group.reasons)


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
