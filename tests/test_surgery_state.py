"""Networks that keep something from one call to the next, or write into their own tensors: cut exactly, or refused."""

from __future__ import annotations

import copy
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import slimnet
from slimnet.errors import VerificationError
from test_surgery import roughen, zero_filters
from written_networks import reasons

X = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Keeps(nn.Module):
    """Two convolutions, and something between them that has a state: buffers, scale and shift, numbers of Python."""

    mean: Tensor

    def __init__(self, does: Callable[[Keeps, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.na = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.b, self.head = nn.Conv2d(8, 8, 3, bias=False), nn.Linear(8, 5)
        self.scale, self.shift = nn.Parameter(torch.ones(1, 8, 1, 1)), nn.Parameter(torch.zeros(1, 8, 1, 1))
        self.register_buffer("mean", torch.full((1, 8, 1, 1), 0.25), persistent=False)
        self.register_buffer("set_up", torch.tensor(False))
        self.calls, self.is_new = 0, True
        self.kept: Tensor | None = None
        self.held: dict[str, dict[str, Tensor]] = {"by device": {}}
        self.kinds: list[Tensor] = []
        self.shapes: set[torch.Size] = set()
        self.last: deque[Tensor] = deque(maxlen=2)
        self.does = does

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.b(self.does(self, F.relu(self.na(self.a(x)))))).mean((2, 3)))
        return out


def _set_up(m: Keeps, x: Tensor) -> None:
    """As glow and flows do with the first batch that they see."""
    m.shift.data.copy_(-x.mean((0, 2, 3), keepdim=True))
    m.scale.data.copy_(1 / (x.std((0, 2, 3), keepdim=True) + 0.01))


def set_up_by_a_number(m: Keeps, x: Tensor) -> Tensor:
    if m.is_new:
        _set_up(m, x)
        m.is_new = False
    return m.scale * (x + m.shift)


def set_up_by_a_buffer(m: Keeps, x: Tensor) -> Tensor:
    if not m.set_up:
        _set_up(m, x)
        m.set_up.fill_(True)  # type: ignore[operator]
    return m.scale * (x + m.shift)


def running_mean(m: Keeps, x: Tensor) -> Tensor:
    m.mean.mul_(0.9).add_(x.mean((0, 2, 3), keepdim=True), alpha=0.1)
    return x - m.mean


def read_and_then_written(m: Keeps, x: Tensor) -> Tensor:
    y = x * m.mean
    m.mean[:] = m.mean + 1
    return y


def counted(m: Keeps, x: Tensor) -> Tensor:
    m.calls += 1
    return F.pad(x, (1, 1, 1, 1)) if m.calls == 1 else x


def cached(m: Keeps, x: Tensor) -> Tensor:
    if m.kept is None or m.kept.shape[2:] != x.shape[2:]:
        m.kept = torch.linspace(0, 1, x.shape[3], dtype=x.dtype).expand(1, 8, *x.shape[2:])
    return x + m.kept


def kept_in_a_mapping(m: Keeps, x: Tensor) -> Tensor:
    """As timm's efficientformer and LeViT keep what they look up in a table of weights, for each device."""
    if m.training:
        return x * m.scale.abs()
    if str(x.device) not in m.held["by device"]:
        m.held["by device"][str(x.device)] = m.scale.abs()
    return x * m.held["by device"][str(x.device)]


def kept_in_a_list(m: Keeps, x: Tensor) -> Tensor:
    if len(m.kinds) < 1:
        m.kinds.append(torch.linspace(0, 1, x.shape[3], dtype=x.dtype))
    m.shapes.add(x.shape)
    m.last.append(x.mean())
    return x if x.shape[3] != m.kinds[0].shape[0] else x + m.kinds[0]


def remembered(m: Keeps, x: Tensor) -> Tensor:
    before, m.kept = m.kept, x.mean(0, keepdim=True)
    return x if before is None else x + before


def test_heads_that_run_in_training_mode_alone() -> None:
    """The slim network trains as the one before does: what such a head reads stays."""

    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
            self.head, self.aux = nn.Linear(8, 5), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            middle = F.relu(self.b(F.relu(self.a(x))))
            out = self.head(F.relu(self.c(middle)).mean((2, 3)))
            return (out, self.aux(middle.mean((2, 3)))) if self.training else out

    torch.manual_seed(0)
    model = roughen(Auxiliary()).double()
    zero_filters(model)
    result = slimnet.slim(model, X)
    assert result.model.b.out_channels == 8  # type: ignore[union-attr]
    assert result.model.a.out_channels == result.model.c.out_channels == 4  # type: ignore[union-attr]
    assert "layers that run in training mode alone read these channels: mat1 and mat2" in reasons(result)
    out, aux = result.model.train()(X)
    want, expected = model.train()(X)
    torch.testing.assert_close((out, aux), (want, expected), rtol=1e-9, atol=1e-12)


class Own:
    """As somebody writes a cache."""

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.held

    def __getitem__(self, name: str) -> Tensor:
        return self.held[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.held[name] = value

    def clear(self) -> None:
        self.held.clear()


class Fixed(OrderedDict[str, Tensor]):
    """One that gives nothing back."""

    def clear(self) -> None:
        raise TypeError("nothing is taken out of it")


class Cached(nn.Module):
    """Keeps a tensor in what it is given; in its class where that is nothing."""

    shared: ClassVar[dict[str, Tensor]] = {}

    def __init__(self, cache: Any) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
        self.scale = nn.Parameter(torch.rand(8, 1, 1), requires_grad=False)
        self.cache = cache

    def forward(self, x: Tensor) -> Tensor:
        held = self.shared if self.cache is None else self.cache
        if "k" not in held:
            held["k"] = self.scale.abs()
        out: Tensor = self.b(F.relu(self.a(x)) * held["k"])
        return out


class Hidden(nn.Module):
    """Keeps a module in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.a = [Cached({})], nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.a(self.inner[0](x))
        return out


@pytest.mark.parametrize("cache", [dict, Fixed, UserDict, Own, lambda: SimpleNamespace(x=1).__dict__, lambda: None, Hidden])
def test_no_trace_of_an_analysis_is_left(cache: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    made = cache()
    model = (made if isinstance(made, Hidden) else Cached(made)).eval()
    x = torch.randn(2, 3, 8, 8)
    for _ in range(2):
        slimnet.channel_groups(model, x)
    with torch.no_grad():
        assert type(model(x)) is Tensor
    Cached.shared.clear()


CASES = (
    set_up_by_a_number, set_up_by_a_buffer, running_mean, read_and_then_written, counted, cached, kept_in_a_mapping,
    kept_in_a_list, remembered,
)  # fmt: skip


@pytest.mark.parametrize("ran", [0, 1])
@pytest.mark.parametrize("does", CASES)
def test_three_calls_give_what_they_gave(does: Callable[[Keeps, Tensor], Tensor], ran: int) -> None:
    torch.manual_seed(0)
    model = roughen(Keeps(does)).double()
    zero_filters(model)
    with torch.no_grad():
        for _ in range(ran):
            model(X)
    before = copy.deepcopy(model)
    try:
        result = slimnet.slim(model, X)
    except VerificationError as error:  # what it computes is no function of its inputs
        assert "keep something from one call to the next?" in str(error)
        assert does in (counted, remembered)
        result = None
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in (*before.named_parameters(), *before.named_buffers()):
        assert torch.equal(tensor, tensors[name]), name
    assert (model.calls, model.is_new, model.shapes) == (before.calls, before.is_new, before.shapes)
    for now, then in (
        (model.held["by device"], before.held["by device"]),
        (dict(enumerate(model.kinds)), dict(enumerate(before.kinds))),
    ):
        assert list(now) == list(then)
        assert all(torch.equal(now[name], then[name]) for name in then)
    assert len(model.last) == len(before.last)
    if result is not None:
        assert result.report.removed >= 4
        for x in (X, 2 * X, X[:1]):
            with torch.no_grad():
                torch.testing.assert_close(result.model(x), model(x), rtol=1e-9, atol=1e-12)
