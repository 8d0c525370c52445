"""FSDP, worked by hand: what is selected, how it fades, what comes back and what closes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from method_cases import (
    OPTIMIZERS,
    adamw,
    closed_are_zero,
    on_a_line,
    run_epoch,
    start,
    step,
)
from slimnet.criteria import ClassStatistics
from slimnet.methods import FSDP
from slimnet.methods.soft import RELEASE_ABOVE

# -- FSDP ------------------------------------------------------------------------------------------------


def _by_hand(method, epochs):
    """A network whose inner filters lie on a line, filter f at f + 1; CS scores are given by hand."""
    model, pruner = on_a_line(method, epochs)
    # means of three classes (0, d, 0): the score of filter f is 2 d²
    spread = torch.tensor([5.0, 4.0, 3.0, 2.0, 6.0, 1.0])
    asked = []

    def statistics(modules):
        asked.append(list(modules))
        gain = pruner.mask.scale["conv1"]  # a faded feature map is smaller
        sums = torch.stack([torch.zeros(6), spread * gain, torch.zeros(6)]).double()
        return ClassStatistics({"bn1": sums}, torch.ones(3, dtype=torch.int64))

    return model, pruner, statistics, asked


def test_the_masks_of_every_epoch_worked_by_hand():
    # θ = 2/6 CS + 2/6 GM, τ = 2, three epochs of pruning (last = 2), one of fine-tuning: θ(0) = 0,
    # θ(1) = ¾ · 4/6 = 3/6, θ(2) = 4/6.
    # e = 1: 3 filters: CS takes 5 (spread 1) and 3 (spread 2); GM among 0, 1, 2, 4 (at 1, 2, 3, 5):
    #        sums of distances 1+2+4 = 7, 1+1+3 = 5, 2+1+2 = 5, 4+3+2 = 9: filters 1 and 2 tie,
    #        the lower index goes. ζ = 1 − ¾ = ¼.
    # e = 2: 4 filters: CS keeps its two, GM takes 1 and 2. ζ = 0.
    method = FSDP(rate_cs=2 / 6, rate_gm=2 / 6, tau=2.0, finetune_epochs=1)
    model, pruner, statistics, asked = _by_hand(method, epochs=4)
    pruner.after_epoch(0, statistics)
    assert pruner.mask.scale["conv1"].tolist() == [1] * 6
    assert asked == []  # nothing to select yet: the data are left alone

    pruner.after_epoch(1, statistics)
    assert pruner.selected["conv1"].tolist() == [5, 3, 1]
    assert pruner.mask.scale["conv1"].tolist() == pytest.approx([1, 0.25, 1, 0.25, 1, 0.25])
    assert model.conv1.weight[:, 0, 1, 1].tolist() == pytest.approx([1, 0.5, 3, 1, 5, 1.5])
    assert asked == [["bn1"]]  # behind the norm
    assert not pruner.is_closed()

    pruner.after_epoch(2, statistics)
    assert pruner.selected["conv1"].tolist() == [5, 3, 1, 2]
    assert model.conv1.weight[:, 0, 1, 1].tolist() == [1, 0, 0, 0, 5, 0]
    assert pruner.is_closed()
    assert pruner.log() == {
        "rate": method.final_rate,
        "zeta": 0.0,
        "selected_share": 4 / 6,
        "closed_share": 4 / 6,
    }

    pruner.after_epoch(3, statistics)  # fine-tuning: the selection is frozen
    assert pruner.mask.closed()["conv1"].tolist() == [False, True, True, True, False, True]
    assert len(asked) == 2


def test_cs_goes_before_gm_and_they_are_disjoint():
    method = FSDP(rate_cs=0.3, rate_gm=0.4, finetune_epochs=0)
    model, pruner, optimizer, statistics = start(method, epochs=12)
    before: dict[str, torch.Tensor] = {}
    for epoch in range(12):
        run_epoch(model, pruner, optimizer, epoch, statistics, steps=1)
        for name, chosen in pruner.selected.items():
            by_cs, by_gm = method.counts(pruner.groups[name].size, epoch=epoch, last_epoch=11)
            assert len(set(chosen.tolist())) == by_cs + by_gm
            if by_gm:
                assert by_cs == int(pruner.groups[name].size * 0.3)
            if by_cs and pruner.scale(epoch) >= RELEASE_ABOVE:
                order = pruner.cs_scores[name].sort(stable=True).indices
                assert chosen[:by_cs].tolist() == order[:by_cs].tolist()
            elif by_cs:  # the selection only grows
                assert before[name].tolist() == chosen[: len(before[name])].tolist()
        before = dict(pruner.selected)


@pytest.mark.parametrize("criterion", ["l1", "l2", "norm-scale"])
def test_another_criterion_goes_before_gm_and_asks_for_no_data(criterion):
    method = FSDP(rate_cs=0.3, rate_gm=0.4, first=criterion, cs_from_start=True, tau=2, finetune_epochs=0)
    _, pruner, _, statistics = start(method, epochs=12)
    for epoch in range(12):
        if pruner.scale(epoch) < RELEASE_ABOVE:
            break
        scores = {name: pruner.scores(group, criterion) for name, group in pruner.groups.items()}
        pruner.after_epoch(epoch, statistics)
        for name, chosen in pruner.selected.items():
            by_first, by_gm = method.counts(pruner.groups[name].size, epoch=epoch, last_epoch=11)
            order = scores[name].sort(stable=True).indices
            assert len(chosen) == by_first + by_gm
            assert chosen[:by_first].tolist() == order[:by_first].tolist()
    assert epoch > 3 and statistics.asked == []
    assert FSDP(first=criterion, faithful=True).first == "cs"


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [1, 2, 4]), (3, [1, 3])])
def test_class_statistics_are_asked_for_only_when_they_are_due(every, expected):
    method = FSDP(rate_cs=0.4, rate_gm=0.2, cs_every=every, finetune_epochs=2)
    model, pruner, optimizer, statistics = start(method, epochs=8)
    asked = []
    for epoch in range(8):
        before = len(statistics.asked)
        run_epoch(model, pruner, optimizer, epoch, statistics, steps=1)
        asked += [epoch] * (len(statistics.asked) - before)
    assert asked == expected
    assert statistics.asked[-1] == ["bn", "bn2", "bn1"]


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 2, 4]), (3, [0, 3])])
def test_published_class_statistics_are_taken_from_the_first_epoch_on(every, expected):
    assert FSDP(faithful=True).cs_from_start
    method = FSDP(rate_cs=0.4, rate_gm=0.2, cs_every=every, finetune_epochs=2, cs_from_start=True)
    model, pruner, optimizer, statistics = start(method, epochs=8)
    asked, scores = [], []
    for epoch in range(8):
        before = len(statistics.asked)
        run_epoch(model, pruner, optimizer, epoch, statistics, steps=1)
        asked += [epoch] * (len(statistics.asked) - before)
        scores.append({name: value.clone() for name, value in pruner.cs_scores.items()})
    assert asked == expected
    if every > 1:  # epoch 1 selects by the scores of epoch 0
        assert all(torch.equal(value, scores[0][name]) for name, value in scores[1].items())


def test_without_a_cs_share_the_data_are_never_asked_for():
    model, pruner, optimizer, statistics = start(FSDP(rate_cs=0.0, rate_gm=0.5), epochs=4)
    for epoch in range(4):
        run_epoch(model, pruner, optimizer, epoch, statistics, steps=1)
    assert statistics.asked == []


def test_a_filter_can_come_back_while_it_fades_and_then_has_its_strength_back():
    method = FSDP(rate_cs=0.0, rate_gm=0.5, tau=2.0, finetune_epochs=0)
    model, pruner, statistics, _ = _by_hand(method, epochs=6)
    pruner.after_epoch(0, statistics)
    before = model.bn1.weight.detach().clone()
    pruner.after_epoch(1, statistics)  # one filter: 2 and 3 tie in the middle
    assert pruner.selected["conv1"].tolist() == [2]
    zeta = pruner.scale(1)
    assert model.conv1.weight[2, 0, 1, 1].item() == pytest.approx(3 * zeta)
    with torch.no_grad():
        model.conv1.weight[2, 0, 1, 1] = 20 * zeta  # it learned to differ while it fades
    pruner.after_epoch(2, statistics)
    assert 2 not in pruner.selected["conv1"].tolist()
    assert pruner.mask.scale["conv1"][2] == 1
    assert model.conv1.weight[2, 0, 1, 1].item() == pytest.approx(20, rel=1e-5)
    assert model.bn1.weight[2].item() == pytest.approx(before[2].item(), rel=1e-5)


def test_a_filter_that_has_faded_far_is_released_no_more():
    method = FSDP(rate_cs=0.0, rate_gm=0.5, tau=4.0, finetune_epochs=0)
    model, pruner, statistics, _ = _by_hand(method, epochs=20)
    epoch = next(e for e in range(20) if pruner.scale(e) < RELEASE_ABOVE)
    for e in range(epoch):
        pruner.after_epoch(e, statistics)
    faded = pruner.selected["conv1"].tolist()
    assert faded
    with torch.no_grad():
        model.conv1.weight[faded] = 100.0  # they would be the last to be selected now
    for e in range(epoch, 20):
        pruner.after_epoch(e, statistics)
        assert pruner.selected["conv1"][: len(faded)].tolist() == faded


def test_a_filter_that_stays_selected_is_scaled_to_zeta_and_not_to_their_product():
    kept, lost = FSDP(rate_cs=0.34, rate_gm=0.0, finetune_epochs=0), None
    lost = replace(kept, reversible=False)
    for method in (kept, lost):
        model, pruner, statistics, _ = _by_hand(method, epochs=30)
        zetas = []
        for epoch in range(8):
            pruner.after_epoch(epoch, statistics)
            zetas.append(pruner.scale(epoch) if 5 in pruner.selected["conv1"].tolist() else 1.0)
        expected = zetas[-1] if method is kept else torch.tensor(zetas).prod().item()
        assert 5 in pruner.selected["conv1"].tolist()
        assert model.conv1.weight[5, 0, 1, 1].item() == pytest.approx(6 * expected, rel=1e-5)


def test_gradients_of_the_next_epoch_are_scaled_by_zeta():
    model, pruner, optimizer, statistics = start(FSDP(rate_cs=0.0, rate_gm=0.5), epochs=20)
    for epoch in range(4):
        run_epoch(model, pruner, optimizer, epoch, statistics, steps=1)
    zeta = torch.ones(10)
    zeta[pruner.selected["conv1"]] = pruner.scale(3)
    optimizer.zero_grad()
    model(torch.randn(4, 1, 6, 6)).square().sum().backward()
    before = model.conv1.weight.grad.clone()
    pruner.after_backward()
    assert torch.allclose(model.conv1.weight.grad, before * zeta.view(-1, 1, 1, 1))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_momentum_does_not_revive_a_closed_filter_even_without_hard_masking(optimizer, monkeypatch):
    monkeypatch.setattr("slimnet.masks.SoftMask.enforce", lambda self: None)
    model, pruner, opt, statistics = start(FSDP(finetune_epochs=3), epochs=6, optimizer=optimizer)
    for epoch in range(6):
        run_epoch(model, pruner, opt, epoch, statistics)
    assert closed_are_zero(model, pruner)


def test_hard_masking_is_what_holds_when_momentum_is_left_alone(monkeypatch):
    method = FSDP(finetune_epochs=3, mask_momentum=False)
    model, pruner, optimizer, statistics = start(method, epochs=6)
    for epoch in range(6):
        run_epoch(model, pruner, optimizer, epoch, statistics)
    assert closed_are_zero(model, pruner)
    monkeypatch.setattr("slimnet.masks.SoftMask.enforce", lambda self: None)
    model, pruner, optimizer, statistics = start(method, epochs=6)
    for epoch in range(6):
        run_epoch(model, pruner, optimizer, epoch, statistics)
    with pytest.raises(AssertionError):
        closed_are_zero(model, pruner)


def test_an_adaptive_optimiser_moves_a_faded_filter_by_zeta_of_a_step():
    model, pruner, optimizer, statistics = start(FSDP(rate_cs=0.0, rate_gm=0.5), epochs=30, optimizer=adamw)
    for epoch in range(9):
        run_epoch(model, pruner, optimizer, epoch, statistics, steps=2)
    zeta, chosen = pruner.scale(8), pruner.selected["conv1"]
    assert zeta < 0.2
    before = model.conv1.weight.detach().clone()
    step(model, pruner, optimizer, 1)
    moved = (model.conv1.weight - before).flatten(1).abs().amax(1).detach()
    assert moved[chosen].max() <= zeta * 0.05  # a step is about lr = 0.01


@pytest.mark.parametrize(("size", "exact", "published"), [(16, 8, 7), (32, 16, 15), (64, 32, 31), (4, 2, 1), (1, 0, 0)])
def test_two_floors_prune_less_than_asked(size, exact, published):
    assert sum(FSDP().counts(size, epoch=199, last_epoch=199)) == exact
    assert sum(FSDP(faithful=True).counts(size, epoch=199, last_epoch=199)) == published


def test_the_last_filter_of_a_group_fades_like_the_others():
    for size in (4, 6, 10, 16, 64):
        totals = [sum(FSDP().counts(size, epoch=epoch, last_epoch=11)) for epoch in range(12)]
        assert totals == sorted(totals)
        assert totals[10] == totals[11] == size // 2
        assert sum(FSDP(faithful=True).counts(size, epoch=10, last_epoch=11)) < totals[11]


def test_a_group_that_closes_whole_goes_once_it_can_be_released_no_more():
    for inner in (1, 10):
        model, pruner, optimizer, statistics = start(FSDP(tau=2.0, widths=(("conv1", 0),)), epochs=12, inner=inner)
        gone = []
        for epoch in range(12):
            run_epoch(model, pruner, optimizer, epoch, statistics, steps=1)
            closed, selected = pruner.mask.closed()["conv1"], pruner.selected["conv1"].unique()
            gone.append(bool(closed.all()))
            assert gone[-1] is (len(selected) == inner and pruner.scale(epoch) < RELEASE_ABOVE)
            assert gone[-1] or not closed.any()
        assert gone == sorted(gone) and gone[pruner.last_epoch - 1] and not gone[1]
        assert pruner.log()["rate"] == pruner.log()["closed_share"] == 1 * inner / (8 + inner)


def test_a_group_never_closes_entirely():
    for faithful in (False, True):
        method = FSDP(rate_cs=0.5, rate_gm=0.49, faithful=faithful)
        assert all(sum(method.counts(size, epoch=9, last_epoch=9)) < size for size in range(1, 300))


def test_faithful_is_the_published_recipe():
    method = FSDP(faithful=True)
    assert (method.couple, method.mask_norm, method.reversible, method.mask_momentum) == (
        "none",
        False,
        False,
        False,
    )
    assert (method.finetune_epochs, method.exact_counts, method.statistics_share) == (0, False, 1.0)
    model, pruner, optimizer, statistics = start(method, epochs=5)
    norm = model.bn1.weight
    for epoch in range(5):
        run_epoch(model, pruner, optimizer, epoch, statistics, steps=1)
    assert pruner.last_epoch == 4
    assert (norm != 0).all()
    assert (model.conv1.weight.flatten(1) == 0).all(1).sum() == 5  # 10: ⌊1⌋ + ⌊4⌋


@pytest.mark.parametrize(
    ("epochs", "finetune", "last"),
    [(1, None, 0), (2, None, 0), (3, None, 1), (15, None, 11), (10, 0, 9), (10, 9, 0)],
)
def test_the_last_fifth_fine_tunes_what_was_selected(epochs, finetune, last):
    method = FSDP(finetune_epochs=finetune)
    model, pruner, optimizer, statistics = start(method, epochs=epochs)
    assert pruner.last_epoch == last
    for epoch in range(epochs):
        run_epoch(model, pruner, optimizer, epoch, statistics, steps=1)
    assert pruner.is_closed()
    assert pruner.mask.closed_share() > 0
