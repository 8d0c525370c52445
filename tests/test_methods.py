"""What every method must do; FSDP; one-shot pruning."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from method_cases import (
    CASES,
    EPOCHS,
    OPTIMIZERS,
    Statistics,
    adamw,
    closed_are_zero,
    on_a_line,
    run_epoch,
    start,
    step,
)
from slimnet.criteria import ClassStatistics
from slimnet.errors import ArgumentError
from slimnet.methods import FSDP, Dense, Method, method_names
from slimnet.methods.closing import prune
from slimnet.methods.soft import RELEASE_ABOVE
from tiny_net import tiny_groups, tiny_net

CARDS = Path(__file__).parents[1] / "docs" / "methods"

# -- what every method must do ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_method_survives_json(case):
    assert Method.from_dict(json.loads(json.dumps(case.method.as_dict()))) == case.method


def test_every_method_is_in_the_table():
    assert set(method_names()) == {case.method.name for case in CASES}


@pytest.mark.parametrize("name", sorted(set(method_names()) - {"dense"}))
def test_every_method_has_a_card(name):
    card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    for part in ("## Use", "## Suggested values", "## Where we deviate", "## Measured", "## Reference"):
        assert part in card, part
    assert f"--method {name}" in card


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_closed_is_exactly_zero_from_the_epoch_on_that_may_be_the_result(case, optimizer):
    model, pruner, optimizer, statistics = start(case.method, epochs=EPOCHS, optimizer=optimizer)
    for epoch in range(EPOCHS):
        run_epoch(model, pruner, optimizer, epoch, statistics)
        assert pruner.is_closed() == (epoch >= case.closed_from), epoch
        if pruner.is_closed():
            assert closed_are_zero(model, pruner)
            if case.holds and epoch < EPOCHS - 1:
                step(model, pruner, optimizer, epoch)
                assert closed_are_zero(model, pruner)
    mask = getattr(pruner, "mask", None)
    assert sum(int(closed.sum()) for closed in mask.closed().values() if mask) == case.closed if mask else case.closed == 0
    assert pruner.log().get("closed_share", 0.0) == case.closed / 18
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("stop", [3, 5])  # in a sparse phase, or as a stage begins; frozen
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_resumed_run_ends_bit_for_bit_like_one_that_was_not_stopped(case, optimizer, stop):
    model, pruner, opt, statistics = start(case.method, epochs=6, optimizer=optimizer)
    for epoch in range(stop):
        run_epoch(model, pruner, opt, epoch, statistics)
    pruner.before_epoch(stop)
    step(model, pruner, opt, 7)  # stop after the first step of this epoch and go on in new objects
    other = tiny_net(width=8, inner=10, seed=5)
    again = case.method.start(other, tiny_groups(other), epochs=6)
    other_opt, other_statistics = optimizer(other.parameters()), Statistics(other)
    other.load_state_dict(model.state_dict())
    other_opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    saved = pruner.state_dict()
    tensors = {name: tensor.clone() for name, tensor in saved["tensors"].items()}
    again.load_state_dict({"tensors": tensors, "values": json.loads(json.dumps(saved["values"]))})
    other_statistics.asked = list(statistics.asked)
    for net, state, optim, numbers in ((model, pruner, opt, statistics), (other, again, other_opt, other_statistics)):
        step(net, state, optim, 8)
        state.after_epoch(stop, numbers)
        for epoch in range(stop + 1, 6):
            run_epoch(net, state, optim, epoch, numbers, steps=2)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert again.is_closed() == pruner.is_closed()
    assert again.log() == pruner.log()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_learning_rate_is_never_raised(case):
    limits = [case.method.lr_limit(epoch, EPOCHS) for epoch in range(EPOCHS)]
    assert all(0 < limit <= 1 for limit in limits)


def test_dense_changes_nothing():
    model, pruner, optimizer, statistics = start(Dense(), epochs=2)
    before = [parameter.clone() for parameter in model.parameters()]
    pruner.after_backward()
    pruner.after_step(optimizer)
    pruner.after_epoch(0, statistics)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not statistics.asked


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate_cs": 1.0}, r"`rate_cs` must be in \[0, 1\), got 1.0"),
        ({"rate_gm": -0.1}, r"`rate_gm` must be in \[0, 1\), got -0.1"),
        ({"rate_cs": float("nan")}, r"`rate_cs` must be in \[0, 1\), got nan"),
        ({"rate_cs": 0.0, "rate_gm": 0.0}, r"`rate_cs` \+ `rate_gm` must be in \(0, 1\), got 0.0"),
        ({"rate_cs": 0.5, "rate_gm": 0.5}, r"`rate_cs` \+ `rate_gm` must be in \(0, 1\), got 1.0"),
        ({"tau": 4 / 3}, "`tau` must be above 4/3"),
        ({"attenuation": 0.0}, r"`attenuation` must be in \(0, 1\], got 0.0"),
        ({"attenuation": 1.1}, r"`attenuation` must be in \(0, 1\], got 1.1"),
        ({"couple": "all"}, "`couple` must be one of stream, none, got 'all'"),
        ({"finetune_epochs": -1}, "`finetune_epochs` must be a whole number of at least 0, got -1"),
        ({"first": "gm"}, "`first` must be one of cs, l2, l1, norm-scale, got 'gm'"),
        ({"cs_every": 0}, "`cs_every` must be a whole number of at least 1, got 0"),
        ({"statistics_share": 0.0}, r"`statistics_share` must be in \(0, 1\], got 0.0"),
    ],
)
def test_bad_hyper_parameters_are_named_with_their_value(values, message):
    with pytest.raises(ArgumentError, match=message):
        FSDP(**values)


def test_runs_that_could_do_nothing_are_refused():
    model = tiny_net()
    groups = tiny_groups(model)
    with pytest.raises(ArgumentError, match="`finetune_epochs` must be less than 3 epochs, got 3"):
        FSDP(finetune_epochs=3).start(model, groups, epochs=3)
    with pytest.raises(ArgumentError, match="`epochs` must be at least 1, got 0"):
        FSDP().start(model, groups, epochs=0)
    with pytest.raises(ArgumentError, match="closes no filter: the widest group has 6 channels"):
        FSDP(rate_cs=0.0, rate_gm=0.1).start(model, groups, epochs=3)
    pinned = [replace(group, pinned="output of the network") for group in groups]
    with pytest.raises(ArgumentError, match=r"may be pruned \(output of the network\)"):
        FSDP().start(model, pinned, epochs=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "fdsp"}, "unknown method 'fdsp'; known: asfp, asrfp, dense"),
        ({"name": "fsdp", "rate_c": 0.1}, "has no hyper-parameter 'rate_c': did you mean `rate_cs`"),
        ({"name": "dense", "zzz": 1}, "has no hyper-parameter 'zzz'; known: none"),
    ],
)
def test_unknown_names_list_the_known_ones(values, message):
    with pytest.raises(ArgumentError, match=message):
        Method.from_dict(values)


# -- prune -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["l1", "l2", "gm", "norm-scale"])
def test_prune_closes_the_share_asked_for_in_every_group_in_place(criterion):
    model = tiny_net(width=8, inner=10)
    mask = prune(model, torch.randn(2, 1, 6, 6), criterion=criterion, rate=0.5)
    assert {name: int(closed.sum()) for name, closed in mask.closed().items()} == {"stem": 4, "conv1": 5}
    closed = mask.closed()["conv1"]
    assert (model.conv1.weight[closed] == 0).all()
    assert (model.bn1.bias[closed] == 0).all()
    assert (model.conv1.weight[~closed] != 0).all()


def test_prune_takes_the_lowest_and_says_what_it_cannot_do():
    model = tiny_net(width=8, inner=10)
    lowest = model.conv1.weight.detach().flatten(1).norm(dim=1).argsort()[:3]
    mask = prune(model, torch.randn(2, 1, 6, 6), criterion="l2", rate=0.3)
    assert mask.closed()["conv1"].nonzero().flatten().tolist() == sorted(lowest.tolist())
    assert prune(model, torch.randn(2, 1, 6, 6), rate=0.0).closed_share() == 0
    for rate in (1.0, -0.1, float("nan")):
        with pytest.raises(ArgumentError, match=r"`rate` must be in \[0, 1\), got"):
            prune(model, torch.randn(2, 1, 6, 6), rate=rate)
    with pytest.raises(ArgumentError, match="unknown `criterion` 'l3'; known: l1, l2"):
        prune(model, torch.randn(2, 1, 6, 6), criterion="l3", rate=0.5)
    with pytest.raises(ArgumentError, match="needs class statistics"):
        prune(model, torch.randn(2, 1, 6, 6), criterion="cs", rate=0.5)
