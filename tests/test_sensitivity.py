"""Widths by measured loss: what groups are worth, and the knapsack over them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import slimnet
from listeners import Heard
from slimnet.allocation import Budget, Layer, LossByWidth, Sensitivity, fit, measure_sensitivity
from slimnet.allocation.knapsack import least_loss
from slimnet.allocation.sensitivity import number_of_trials, telling_widths
from slimnet.criteria import ClosedLoss, group_scores
from slimnet.errors import ArgumentError
from slimnet.graph import channel_groups, prunable, residual_branches
from slimnet.progress import listening

IMAGES = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
INNER, STREAM, SHORT = "layer2.0.conv1", "layer2.0.conv2", "layer1.0.conv1"


def network() -> nn.Module:
    torch.manual_seed(0)
    return slimnet.build_model("resnet8", num_classes=4, in_channels=1).eval()


def batches() -> list[tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(1)
    return [(torch.randn(24, 1, 8, 8, generator=rng), torch.randint(0, 4, (24,), generator=rng)) for _ in range(2)]


def valued(model: nn.Module, **how: float) -> tuple[LossByWidth, dict[str, Tensor]]:
    groups = channel_groups(model, IMAGES)
    scores = {group.name: group_scores(model, group, "l2") for group in prunable(groups)}
    loss = ClosedLoss(model, batches(), **how)  # type: ignore[arg-type]
    return LossByWidth(loss, [*groups, *residual_branches(model, IMAGES)], scores), scores


@torch.no_grad()
def by_hand(model: nn.Module, kept: Mapping[str, int]) -> list[Tensor]:
    """The answers with filters closed by `slimnet.prune` and branches by their norm; norms take each batch's statistics."""
    small = copy.deepcopy(model)
    slimnet.prune(small, IMAGES, widths={name: width for name, width in kept.items() if width})
    for name in (name for name, width in kept.items() if width == 0):
        norm = small.get_submodule(name.replace("conv1", "bn2"))
        nn.init.zeros_(norm.weight), nn.init.zeros_(norm.bias)
    return [small.train()(images) for images, _ in batches()]


CASES: list[dict[str, int]] = [{}, {INNER: 8}, {STREAM: 10, INNER: 32}, {SHORT: 0}, {SHORT: 0, INNER: 4, STREAM: 9}]


@pytest.mark.parametrize("kept", CASES)
def test_the_loss_at_given_widths(kept: dict[str, int]) -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found, moved = valued(model)[0](kept), valued(model, temperature=2.0)[0](kept)
    labels = [labels for _, labels in batches()]
    logits, whole = by_hand(model, kept), by_hand(model, {})
    wanted = [F.cross_entropy(*pair) for pair in zip(logits, labels, strict=True)]
    assert found == pytest.approx(float(torch.stack(wanted).mean()), rel=1e-5)
    shares = [((old / 2).softmax(1), (new / 2).softmax(1)) for old, new in zip(whole, logits, strict=True)]
    apart = [4 * (old * (old.log() - new.log())).sum(1).mean() for old, new in shares]
    assert moved == pytest.approx(float(torch.stack(apart).mean()), rel=1e-3, abs=1e-6)
    assert (moved > 0) == bool(kept)
    assert not model.training and all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_fewer_images_and_wrong_ones() -> None:
    loss = ClosedLoss(network(), batches(), temperature=4.0)
    assert loss.on_first(1).batches == loss.batches[:1] and len(loss.batches) == 2
    assert loss.on_first(1)([]) == 0
    with pytest.raises(ArgumentError, match="holds no batch"):
        ClosedLoss(network(), [])
    with pytest.raises(ArgumentError, match="`temperature` must be a positive number, got 0"):
        ClosedLoss(network(), batches(), temperature=0)
    with pytest.raises(ArgumentError, match=r"'conv1' lies in no residual branch"):
        valued(network())[0]({"conv1": 0})


def test_each_group_is_measured_for_itself_around_given_widths() -> None:
    model = network()
    loss, scores = valued(model)
    ladders = {name: [len(values), len(values) // 2, *([0] if name == SHORT else [])] for name, values in scores.items()}
    with listening(Heard()) as told:
        found = measure_sensitivity(loss, ladders, {INNER: 16})
    assert number_of_trials(ladders) == len(told.shares) == told.shares[-1][2] == len(scores) + 1
    assert found.base == loss({INNER: 16}) and found.kept == {name: ladder[0] for name, ladder in ladders.items()} | {INNER: 16}
    assert found.rise(SHORT, 0) == pytest.approx(loss({INNER: 16, SHORT: 0}) - found.base)
    assert dict(found.rises[INNER]) == {16: 0.0, 32: pytest.approx(loss({}) - found.base)}
    chosen = {SHORT: 0, STREAM: 8}
    assert found.total(chosen) == pytest.approx(found.rise(SHORT, 0) + found.rise(STREAM, 16))


def test_between_widths_and_where_a_narrow_branch_is_worse_than_none() -> None:
    found = Sensitivity(1.0, {"a": 64}, {"a": [(0, 0.2), (16, 0.5), (32, 0.6), (64, 0.0)]})
    assert [found.rise("a", width) for width in (0, 8, 16, 24, 48, 64)] == pytest.approx([0.2, 0.6, 0.6, 0.6, 0.3, 0.0])
    assert telling_widths([64, 48, 40, 32, 16, 12, 8, 4, 0]) == [64, 40, 16, 8, 4, 0] or telling_widths([4]) == [4]
    assert telling_widths([64, 32, 0]) == [64, 32, 0]


def layer(name: str, *sides: tuple[str, int] | None) -> Layer:
    reads, makes = (((side[0], side[1], 1),) if side else () for side in sides)
    sizes = [side[1] if side else 4 for side in sides]
    return Layer(name, (), sizes[0], sizes[1], reads, makes, 3, 9 * sizes[0] * sizes[1])


@pytest.mark.parametrize("seed", range(8))
def test_the_knapsack_finds_what_trying_all_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"s": 32, "a": 16, "b": 24, "c": 12}
    ladders = {"s": [32, 24, 16], "a": [16, 8, 4, 0], "b": [24, 12, 0], "c": [12, 6, 3]}
    pairs = [(None, "s"), ("s", "a"), ("a", "s"), ("s", "b"), ("b", "s"), ("s", "c"), ("c", None)]
    layers = [layer(f"{one}→{two}", *((name, sizes[name]) if name else None for name in (one, two))) for one, two in pairs]
    rises = {
        (name, width): 0.0 if width == ladder[0] else rng.uniform(0, 3) for name, ladder in ladders.items() for width in ladder
    }
    whole = sum(part.flops({}) for part in layers)
    everything = [dict(zip(ladders, chosen, strict=True)) for chosen in itertools.product(*ladders.values())]

    def total(kept: Mapping[str, int]) -> float:
        return sum(rises[pair] for pair in kept.items())

    for share in (0.2, 0.4, 0.6, 0.8):
        allowed = [kept for kept in everything if sum(part.flops(kept) for part in layers) <= share * whole]
        found = least_loss(layers, ladders, lambda name, width: rises[name, width], Layer.flops, share * whole, sizes)
        assert found is not None and found in allowed
        assert total(found) == pytest.approx(min(map(total, allowed)), rel=1e-3)
    assert least_loss(layers, ladders, lambda *_: 0.0, Layer.flops, 0.01 * whole, sizes) is None


def test_the_knapsack_takes_layers_of_many_groups_as_linear() -> None:
    """Three groups that lie side by side in what a layer reads: exact, as one side alone changes."""
    parts = tuple((name, 8, 1) for name in "abc")
    wide = Layer("wide", (), 24, 10, parts, (), 1, 240)
    ladders = {name: [8, 4] for name in "abc"}
    worth = {"a": 3.0, "b": 1.0, "c": 2.0}
    found = least_loss([wide], ladders, lambda name, width: worth[name] * (width < 8), Layer.flops, 200, dict.fromkeys("abc", 8))
    assert found == {"a": 8, "b": 4, "c": 8}


@pytest.mark.parametrize(
    ("budget", "half", "factor"),
    [(Budget(speedup=4), Budget(speedup=2), 4), (Budget(ms=2), Budget(ms=4), 4), (Budget(flops=0.25), Budget(flops=0.5), 4)],
)
def test_targets_on_the_way(budget: Budget, half: Budget, factor: float) -> None:
    assert budget.eased(0.5, 8.0) == half
    assert budget.eased(1, 8.0) is budget
    assert budget.factor(8.0) == factor


class Bare(nn.Module):
    """A residual branch that no norm ends: nothing can close but the channels inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = (
            nn.Conv2d(1, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1),
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head((x + self.outer(self.inner(x).relu())).mean((2, 3)))


def test_a_branch_that_no_norm_ends_closes_by_its_channels() -> None:
    torch.manual_seed(0)
    model = Bare()
    loss, _ = valued(model, temperature=4.0)
    assert residual_branches(model, IMAGES) == ()
    found = loss({"inner": 0})
    nn.init.zeros_(model.inner.weight), nn.init.zeros_(model.inner.bias)
    assert found > 0 and valued(model, temperature=4.0)[0]({}) == 0
    assert loss({}) == pytest.approx(found, rel=1e-4)  # against the answers from before
    with pytest.raises(ArgumentError, match="'stem' lies in no residual branch"):
        loss({"stem": 0})


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(600.0, (4, 6)), (24.0, (1, 6)), (12.0, (1, 3)), (0.1, (1, 1))],
    ids=["all", "images", "rounds", "least"],
)
def test_fewer_images_then_fewer_rounds_where_time_is_short(
    seconds: float, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials of 0.04 s a batch, 100 a round, six rounds: 24 s of each batch."""
    ticks = itertools.count(step=0.04)
    monkeypatch.setattr(fit.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(fit, "MOST_SECONDS", seconds)
    loss = ClosedLoss(network(), batches() * 2, temperature=4.0)
    fewer, rounds = fit._affordable(loss, 100, 6)
    assert (len(fewer.batches), rounds) == expected
