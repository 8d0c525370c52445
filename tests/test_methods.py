from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from slimnet.criteria import ClassStatistics
from slimnet.errors import ArgumentError
from slimnet.methods import FSDP, Dense, Method, SoftMethod, get_method, method_names
from slimnet.methods.pruner import RELEASE_ABOVE
from slimnet.oneshot import prune
from slimnet.schedules import Schedule, constant
from tiny_net import tiny_groups, tiny_net

METHODS = [
    Dense(),
    FSDP(rate_cs=0.2, rate_gm=0.3),
    FSDP(faithful=True),
    FSDP(couple="none", tau=4.0, attenuation=0.2),
]
PRUNING = [method for method in METHODS if not isinstance(method, Dense)]


def _sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)


def _adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)


OPTIMIZERS = [_sgd, _adamw]


class Statistics:
    """Class statistics made up from a seed; remembers when it was asked, and for what."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.asked: list[Sequence[str]] = []

    def __call__(self, modules: Sequence[str]) -> ClassStatistics:
        self.asked.append(list(modules))
        generator = torch.Generator().manual_seed(len(self.asked))
        sums = {
            name: torch.rand(3, self.model.get_submodule(name).weight.shape[0], generator=generator).double() for name in modules
        }
        return ClassStatistics(sums, torch.ones(3, dtype=torch.int64))


def _step(model, pruner, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    images, labels = (
        torch.randn(8, 1, 6, 6, generator=generator),
        torch.randint(0, 3, (8,), generator=generator),
    )
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    pruner.after_backward()
    optimizer.step()
    pruner.after_step(optimizer)


def _epoch(model, pruner, optimizer, epoch, statistics, *, steps=3):
    pruner.before_epoch(epoch)
    for step in range(steps):
        _step(model, pruner, optimizer, 100 * epoch + step)
    pruner.after_epoch(epoch, statistics)


def _start(method, *, epochs, optimizer=_sgd, **net):
    model = tiny_net(**({"width": 8, "inner": 10} | net))
    pruner = method.start(model, tiny_groups(model), epochs=epochs)
    return model, pruner, optimizer(model.parameters()), Statistics(model)


def _closed_are_zero(model, pruner):
    for name, closed in pruner.mask.closed().items():
        group = pruner.groups[name]
        for rows in (*group.filters, *(group.norms if pruner.method.mask_norm else ())):
            if "running" not in rows.name:
                assert (model.get_parameter(rows.name)[closed] == 0).all(), rows.name
    return True


# -- what every method must do ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_method_survives_json(method):
    assert Method.from_dict(json.loads(json.dumps(method.as_dict()))) == method


def test_every_method_is_in_the_table_and_has_a_card():
    names = set(method_names()) - {"toy"}
    assert names == {method.name for method in METHODS}
    cards = Path(__file__).parents[1] / "docs" / "methods"
    assert all((cards / f"{name}.md").is_file() for name in names - {"dense"})


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", PRUNING, ids=repr)
def test_at_the_end_the_selected_are_exactly_zero_and_stay_so(method, optimizer):
    model, pruner, optimizer, statistics = _start(method, epochs=8, optimizer=optimizer)
    for epoch in range(8):
        _epoch(model, pruner, optimizer, epoch, statistics)
        assert pruner.is_closed() == (epoch >= pruner.last_epoch)
        if pruner.is_closed():
            assert _closed_are_zero(model, pruner)
            _step(model, pruner, optimizer, epoch) if epoch < 7 else None
            assert epoch == 7 or _closed_are_zero(model, pruner)
    for name, group in pruner.groups.items():
        expected = sum(method.counts(group.size, epoch=7, last_epoch=7))
        assert int(pruner.mask.closed()[name].sum()) == expected, name
    assert pruner.log()["closed_share"] == pruner.mask.closed_share() > 0
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_resumed_run_ends_bit_for_bit_like_one_that_was_not_stopped(method, optimizer):
    model, pruner, opt, statistics = _start(method, epochs=6, optimizer=optimizer)
    for epoch in range(6):
        if epoch == 3:  # stop after the first step of this epoch and go on in new objects
            pruner.before_epoch(epoch)
            _step(model, pruner, opt, 300)
            saved = pruner.state_dict()
            assert json.loads(json.dumps(saved["values"])) == saved["values"]
            other = tiny_net(width=8, inner=10, seed=5)
            again = method.start(other, tiny_groups(other), epochs=6)
            other_opt = optimizer(other.parameters())
            other.load_state_dict(model.state_dict())
            other_opt.load_state_dict(copy.deepcopy(opt.state_dict()))
            again.load_state_dict(
                {
                    "tensors": {k: v.clone() for k, v in saved["tensors"].items()},
                    **{"values": saved["values"]},
                }
            )
            other_statistics = Statistics(other)
            other_statistics.asked = list(statistics.asked)
            for step in (1, 2):
                _step(model, pruner, opt, 300 + step)
                _step(other, again, other_opt, 300 + step)
            pruner.after_epoch(epoch, statistics)
            again.after_epoch(epoch, other_statistics)
            continue
        _epoch(model, pruner, opt, epoch, statistics)
        if epoch > 3:
            _epoch(other, again, other_opt, epoch, other_statistics)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert again.is_closed() == pruner.is_closed()
    assert again.log() == pruner.log()


def test_dense_changes_nothing():
    model, pruner, optimizer, statistics = _start(Dense(), epochs=2)
    before = [parameter.clone() for parameter in model.parameters()]
    pruner.after_backward()
    pruner.after_step(optimizer)
    pruner.after_epoch(0, statistics)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not statistics.asked


# -- FSDP ------------------------------------------------------------------------------------------------


def _by_hand(method, epochs):
    """A network whose inner filters lie on a line, filter f at f + 1; CS scores are given by hand."""
    model = tiny_net(width=4, inner=6)
    with torch.no_grad():
        for f in range(6):
            model.conv1.weight[f] = 0.0
            model.conv1.weight[f, 0, 1, 1] = f + 1.0
    group = tiny_groups(model)[1]
    pruner = method.start(model, [group], epochs=epochs)
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
    model, pruner, optimizer, statistics = _start(method, epochs=12)
    before: dict[str, torch.Tensor] = {}
    for epoch in range(12):
        _epoch(model, pruner, optimizer, epoch, statistics, steps=1)
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


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [1, 2, 4]), (3, [1, 3])])
def test_class_statistics_are_asked_for_only_when_they_are_due(every, expected):
    method = FSDP(rate_cs=0.4, rate_gm=0.2, cs_every=every, finetune_epochs=2)
    model, pruner, optimizer, statistics = _start(method, epochs=8)
    asked = []
    for epoch in range(8):
        before = len(statistics.asked)
        _epoch(model, pruner, optimizer, epoch, statistics, steps=1)
        asked += [epoch] * (len(statistics.asked) - before)
    assert asked == expected
    assert statistics.asked[-1] == ["bn", "bn2", "bn1"]


def test_without_a_cs_share_the_data_are_never_asked_for():
    model, pruner, optimizer, statistics = _start(FSDP(rate_cs=0.0, rate_gm=0.5), epochs=4)
    for epoch in range(4):
        _epoch(model, pruner, optimizer, epoch, statistics, steps=1)
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
    model, pruner, optimizer, statistics = _start(FSDP(rate_cs=0.0, rate_gm=0.5), epochs=20)
    for epoch in range(4):
        _epoch(model, pruner, optimizer, epoch, statistics, steps=1)
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
    model, pruner, opt, statistics = _start(FSDP(finetune_epochs=3), epochs=6, optimizer=optimizer)
    for epoch in range(6):
        _epoch(model, pruner, opt, epoch, statistics)
    assert _closed_are_zero(model, pruner)


def test_hard_masking_is_what_holds_when_momentum_is_left_alone(monkeypatch):
    method = FSDP(finetune_epochs=3, mask_momentum=False)
    model, pruner, optimizer, statistics = _start(method, epochs=6)
    for epoch in range(6):
        _epoch(model, pruner, optimizer, epoch, statistics)
    assert _closed_are_zero(model, pruner)
    monkeypatch.setattr("slimnet.masks.SoftMask.enforce", lambda self: None)
    model, pruner, optimizer, statistics = _start(method, epochs=6)
    for epoch in range(6):
        _epoch(model, pruner, optimizer, epoch, statistics)
    with pytest.raises(AssertionError):
        _closed_are_zero(model, pruner)


def test_an_adaptive_optimiser_moves_a_faded_filter_by_zeta_of_a_step():
    model, pruner, optimizer, statistics = _start(FSDP(rate_cs=0.0, rate_gm=0.5), epochs=30, optimizer=_adamw)
    for epoch in range(9):
        _epoch(model, pruner, optimizer, epoch, statistics, steps=2)
    zeta, chosen = pruner.scale(8), pruner.selected["conv1"]
    assert zeta < 0.2
    before = model.conv1.weight.detach().clone()
    _step(model, pruner, optimizer, 1)
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
    model, pruner, optimizer, statistics = _start(method, epochs=5)
    norm = model.bn1.weight
    for epoch in range(5):
        _epoch(model, pruner, optimizer, epoch, statistics, steps=1)
    assert pruner.last_epoch == 4
    assert (norm != 0).all()
    assert (model.conv1.weight.flatten(1) == 0).all(1).sum() == 5  # 10: ⌊1⌋ + ⌊4⌋


@pytest.mark.parametrize(
    ("epochs", "finetune", "last"),
    [(1, None, 0), (2, None, 0), (3, None, 1), (15, None, 11), (10, 0, 9), (10, 9, 0)],
)
def test_the_last_fifth_fine_tunes_what_was_selected(epochs, finetune, last):
    method = FSDP(finetune_epochs=finetune)
    model, pruner, optimizer, statistics = _start(method, epochs=epochs)
    assert pruner.last_epoch == last
    for epoch in range(epochs):
        _epoch(model, pruner, optimizer, epoch, statistics, steps=1)
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
        ({"tau": 4 / 3}, "`tau` must exceed 4/3"),
        ({"attenuation": 0.0}, r"`attenuation` must be in \(0, 1\], got 0.0"),
        ({"attenuation": 1.1}, r"`attenuation` must be in \(0, 1\], got 1.1"),
        ({"couple": "all"}, "`couple` must be 'stream' or 'none', got 'all'"),
        ({"finetune_epochs": -1}, "`finetune_epochs` must be at least 0, got -1"),
        ({"cs_every": 0}, "`cs_every` must be at least 1, got 0"),
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
        ({"name": "fdsp"}, "unknown method 'fdsp'; known: dense, fsdp"),
        ({"name": "fsdp", "rate_c": 0.1}, "has no hyper-parameter 'rate_c'; did you mean 'rate_cs'"),
        ({"name": "dense", "zzz": 1}, "has no hyper-parameter 'zzz'; known: none"),
    ],
)
def test_unknown_names_list_the_known_ones(values, message):
    with pytest.raises(ArgumentError, match=message):
        Method.from_dict(values)


# -- room for the family ---------------------------------------------------------------------------------


def test_a_new_method_is_one_class():
    @dataclass(frozen=True)
    class Toy(SoftMethod):
        """Zero the filters of least norm every epoch; they may regrow."""

        name: ClassVar[str] = "toy"
        share: float = 0.5
        mask_gradients: bool = False
        mask_norm: bool = False

        @property
        def final_rate(self) -> float:
            return self.share

        def rate_schedule(self, last_epoch: int) -> Schedule:
            return constant(self.share)

        def scale_schedule(self, last_epoch: int) -> Schedule:
            return constant(0.0)

    assert get_method("toy") is Toy
    assert Method.from_dict({"name": "toy", "share": 0.4}) == Toy(share=0.4)
    model, pruner, optimizer, statistics = _start(Toy(), epochs=5)
    _epoch(model, pruner, optimizer, 0, statistics)
    assert pruner.is_closed()
    assert _closed_are_zero(model, pruner)
    _step(model, pruner, optimizer, 9)
    assert (model.conv1.weight[pruner.mask.closed()["conv1"]] != 0).any()  # regrown
    for epoch in range(1, 5):
        _epoch(model, pruner, optimizer, epoch, statistics)
    _step(model, pruner, optimizer, 9)
    assert _closed_are_zero(model, pruner)


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
