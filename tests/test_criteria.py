from __future__ import annotations

import math

import pytest
import torch

from slimnet import criteria
from slimnet.criteria import ClassStatistics, collect_class_statistics, exact_count, group_scores, lowest
from slimnet.criteria.statistics import global_maximum
from slimnet.errors import ArgumentError
from tiny_net import part_groups, tiny_groups, tiny_net

ROWS = torch.tensor([[3.0, -4.0], [1.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("score", "rows", "expected"),
    [
        (criteria.l1, ROWS, [7, 1, 0]),
        (criteria.l2, ROWS, [5, 1, 0]),
        (criteria.norm_scale, torch.tensor([-2.0, 0.5]), [2, 0.5]),
        (criteria.taylor, ROWS, [7, 1, 0]),
        # distances: 0–1 √(4+16), 0–2 5, 1–2 1
        (criteria.geometric_median, ROWS, [math.sqrt(20) + 5, math.sqrt(20) + 1, 6]),
        # pairs of (1, 2, 4): 1 + 9 + 4; a constant feature separates nothing
        (criteria.class_separability, torch.tensor([[1.0, 2.0, 4.0], [5.0, 5.0, 5.0]]), [14, 0]),
    ],
)
def test_scores_worked_by_hand(score, rows, expected):
    assert score(rows).dtype == torch.float64
    assert score(rows).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_class_separability_is_the_sum_over_pairs_and_does_not_cancel():
    means = torch.rand(5, 7, dtype=torch.float64) + 1e6
    pairs = sum((means[:, i] - means[:, j]) ** 2 for i in range(7) for j in range(i))
    assert torch.allclose(criteria.class_separability(means), pairs, rtol=1e-6)


def test_geometric_median_is_safe_for_close_filters_and_the_same_both_ways(monkeypatch):
    rows = torch.randn(40, 30) * 1e-4 + 1.0
    direct = criteria.geometric_median(rows)
    exact = torch.stack([(rows.double() - row.double()).norm(dim=1).sum() for row in rows])
    assert torch.allclose(direct, exact, rtol=1e-12)
    monkeypatch.setattr(criteria.scores, "_EXACT_DISTANCES", 0)
    assert torch.allclose(criteria.geometric_median(rows), exact, rtol=1e-3)


@pytest.mark.parametrize(
    ("size", "rate", "count"),
    [
        (16, 0.5, 8),
        (10, 0.3, 3),
        (10, 0.7, 7),
        (64, 0.1, 6),
        (4, 0.99, 3),
        (4, 0.9999999999, 3),
        (1, 0.9, 0),
        (8, 0, 0),
    ],
)
def test_counts_are_exact_and_never_take_all(size, rate, count):
    assert exact_count(size, rate) == count


def test_the_lowest_are_taken_in_order_ties_by_index_and_never_the_infinite():
    scores = torch.tensor([2.0, 1.0, 2.0, torch.inf, 1.0])
    assert lowest(scores, 3).tolist() == [1, 4, 0]
    assert lowest(scores, 9).tolist() == [1, 4, 0, 2]


def test_a_stream_is_scored_by_the_average_of_its_layers_each_relative_to_its_mean():
    model = tiny_net()
    stream, _ = tiny_groups(model)
    with torch.no_grad():
        model.stem.weight.zero_()
        model.stem.weight[:, 0, 0, 0] = torch.tensor([100.0, 200.0, 300.0, 200.0])  # mean 200
        model.conv2.weight.zero_()
        model.conv2.weight[:, 0, 0, 0] = torch.tensor([0.4, 0.1, 0.1, 0.2])  # mean 0.2
    assert group_scores(model, stream, "l2").tolist() == pytest.approx([1.25, 0.75, 1.0, 1.0], rel=1e-6)


def test_a_group_that_holds_a_part_of_a_layer_is_scored_by_its_own_rows():
    model = tiny_net()
    low, high = part_groups(model, 2)
    expected = criteria.geometric_median(model.conv1.weight[2:])
    assert torch.allclose(group_scores(model, high, "gm"), expected / expected.mean())
    assert low.size == 2


def test_among_restricts_the_scores_and_scale_is_divided_out():
    model = tiny_net()
    group = tiny_groups(model)[1]
    among = torch.tensor([True, True, False, True, False, True])
    expected = criteria.geometric_median(model.conv1.weight[among])
    scores = group_scores(model, group, "gm", among=among)
    assert torch.isinf(scores[~among]).all()
    assert torch.allclose(scores[among], expected / expected.mean())
    before = group_scores(model, group, "l2")
    scale = torch.tensor([1.0, 0.5, 0.25, 1.0, 0.125, 1.0])
    with torch.no_grad():
        model.conv1.weight.mul_(scale[:, None, None, None])
    assert torch.allclose(group_scores(model, group, "l2", scale=scale), before)
    assert not torch.allclose(group_scores(model, group, "l2"), before)


def test_criteria_that_lack_something_say_so():
    model = tiny_net()
    group = tiny_groups(model)[1]
    with pytest.raises(ArgumentError, match="unknown `criterion` 'l3'; known: l1, l2, gm"):
        group_scores(model, group, "l3")
    with pytest.raises(ArgumentError, match="needs class statistics"):
        group_scores(model, group, "cs")
    with pytest.raises(ArgumentError, match=r"'conv1.weight' has none: run backward"):
        group_scores(model, group, "taylor")
    with torch.no_grad():
        model.conv1.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ArgumentError, match=r"'conv1.weight' gives scores that are not finite"):
        group_scores(model, group, "l2")


def test_taylor_and_norm_scale_read_gradients_and_norms():
    model = tiny_net()
    group = tiny_groups(model)[1]
    model(torch.randn(4, 1, 5, 5)).square().sum().backward()
    product = (model.conv1.weight * model.conv1.weight.grad).detach().abs().sum((1, 2, 3))
    assert torch.allclose(group_scores(model, group, "taylor").float(), product / product.mean(), rtol=1e-5)
    gamma = model.bn1.weight.detach().abs()
    assert torch.allclose(group_scores(model, group, "norm-scale").float(), gamma / gamma.mean(), rtol=1e-5)


def _batches(count=3, size=8, classes=3):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 1, 6, 6, generator=generator),
            torch.randint(0, classes, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def test_class_statistics_equal_the_definition_and_leave_the_model_alone():
    model = tiny_net()
    model.bn2.eval()  # modes must come back one by one
    modes = {name: module.training for name, module in model.named_modules()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batches = _batches()
    found = collect_class_statistics(model, ["bn", "conv1"], batches, 3)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(not module._forward_hooks for module in model.modules())

    model.eval()
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    with torch.no_grad():
        z = model.bn(model.stem(images)).relu().amax((2, 3)).double()
    for label in range(3):
        assert torch.allclose(found.sums["bn"][label], z[labels == label].sum(0))
        assert torch.allclose(found.means("bn")[label], z[labels == label].mean(0))
    assert found.counts.tolist() == torch.bincount(labels, minlength=3).tolist()
    assert found.sums["conv1"].shape == (3, 6)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 7), (2, 3, 5, 8), (2, 3, 1, 9), (2, 3, 4, 3, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_global_maximum(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Exactly the largest value over all dimensions behind the second; where one is NaN, NaN."""
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = maps.flatten(2).max(2).values if maps.dim() > 2 else maps
    assert torch.equal(global_maximum(maps), expected)
    if maps.dim() == 4:
        assert torch.equal(global_maximum(maps.to(memory_format=torch.channels_last)), expected)
    maps[(1, 2, *(size - 1 for size in shape[2:]))] = torch.nan
    assert global_maximum(maps).isnan().nonzero().tolist() == [[1, 2]]


def test_class_statistics_of_two_processes_add_up():
    model, batches = tiny_net(), _batches(4)
    whole = collect_class_statistics(model, ["bn"], batches, 3)
    other = collect_class_statistics(model, ["bn"], batches[2:], 3)
    pending = [other.sums["bn"], other.counts]
    summed = collect_class_statistics(model, ["bn"], batches[:2], 3, reduce=lambda t: t.add_(pending.pop(0)))
    assert torch.allclose(summed.sums["bn"], whole.sums["bn"])
    assert summed.counts.tolist() == whole.counts.tolist()


def test_a_failed_forward_leaves_no_hook_and_the_modes():
    model = tiny_net().train()
    with pytest.raises(RuntimeError):
        collect_class_statistics(model, ["bn"], [(torch.zeros(2, 5, 6, 6), torch.zeros(2, dtype=torch.int64))], 3)
    assert model.bn.training
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("modules", "batches", "classes", "message"),
    [
        (["nose"], _batches(), 3, "no module 'nose'"),
        (["bn"], [], 3, "there was no batch"),
        (["bn"], _batches(), 2, r"labels must be in \[0, 2\), got 0 to 2"),
    ],
)
def test_bad_requests_for_statistics(modules, batches, classes, message):
    with pytest.raises(ArgumentError, match=message):
        collect_class_statistics(tiny_net(), modules, batches, classes)


def test_a_class_without_images_does_not_count():
    statistics = ClassStatistics({"bn": torch.tensor([[2.0], [0.0], [9.0]]).double()}, torch.tensor([2, 0, 3]))
    assert statistics.means("bn").tolist() == [[1.0], [3.0]]
    with pytest.raises(ArgumentError, match="2 classes or more, got 1"):
        ClassStatistics({"bn": torch.zeros(2, 1).double()}, torch.tensor([2, 0])).means("bn")
    with pytest.raises(ArgumentError, match="no class statistics of 'bn1'; there are: bn"):
        statistics.means("bn1")
