"""The rate for a share of the FLOPs is the one that cutting every trial finds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from slimnet.commands import rate as room
from slimnet.commands.rate import HIGHEST_RATE, RATE_STEP, rate_for
from slimnet.errors import ArgumentError
from slimnet.measure import count
from slimnet.methods.closing import prune
from slimnet.models import build_model
from slimnet.surgery import make_plan
from tiny_net import tiny_net

OPTIONS: dict[str, Any] = {
    "criterion": "l2",
    "ranking": "group",
    "couple": "stream",
    "mask_norm": True,
    "ignore": (),
    "statistics": None,
}
IMAGE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
CASES: dict[str, dict[str, Any]] = {
    "group": {},
    "global": {"ranking": "global"},
    "couple none": {"couple": "none"},
    "ignore": {"ignore": ("stem",)},
    "no norms": {"mask_norm": False},
    "norm-scale, global": {"criterion": "norm-scale", "ranking": "global"},
}


def by_cutting(model: nn.Module, flops: float, options: dict[str, Any]) -> float:
    """What prune did before: a copy, pruned and cut, for each trial."""
    dense = count(model, IMAGE).flops

    def share(rate: float) -> float:
        trial = copy.deepcopy(model)
        prune(trial, IMAGE, rate=rate, **options)
        small = copy.deepcopy(trial)
        return count(make_plan(trial, IMAGE).apply(small), IMAGE).flops / dense

    low, high = 0.0, HIGHEST_RATE
    while high - low > RATE_STEP:
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) > flops else (low, middle)
    return high


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_rate_that_cutting_finds(case: str) -> None:
    options, model = OPTIONS | CASES[case], tiny_net(width=12, inner=20).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert rate_for(model, IMAGE, 0.6, options)[0] == by_cutting(model, 0.6, options)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_of_many_streams() -> None:
    torch.manual_seed(0)
    model = build_model("resnet8", num_classes=10, in_channels=1).eval()
    options = OPTIONS | {"ranking": "global"}
    assert rate_for(model, IMAGE, 0.45, options)[0] == by_cutting(model, 0.45, options)


def test_only_the_rate_that_was_found_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[float] = []
    original = room._once_cut

    def noted(model: nn.Module, example: torch.Tensor, rate: float, options: Any) -> int:
        cut.append(rate)
        return original(model, example, rate, options)

    monkeypatch.setattr(room, "_once_cut", noted)
    model = tiny_net(width=12, inner=20).eval()
    found, left = rate_for(model, IMAGE, 0.6, OPTIONS)
    assert cut == [found]
    assert left == original(model, IMAGE, found, OPTIONS) < 0.6 * count(model, IMAGE).flops


def test_where_counting_is_wrong_every_trial_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_net(width=12, inner=20).eval()
    expected = by_cutting(model, 0.6, OPTIONS)
    original = room.LiveFlops.live
    monkeypatch.setattr(room.LiveFlops, "live", lambda self, closed: 0.8 * original(self, closed))
    assert rate_for(model, IMAGE, 0.6, OPTIONS)[0] == expected


def test_what_cannot_be_reached() -> None:
    with pytest.raises(ArgumentError, match=r"`flops` 0\.0001 cannot be reached: the least share .* is 0\.0"):
        rate_for(tiny_net().eval(), IMAGE, 0.0001, OPTIONS)
