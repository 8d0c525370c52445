"""What every method must do; one-shot pruning."""

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
    closed_are_zero,
    run_epoch,
    start,
    step,
)
from slimnet.errors import ArgumentError
from slimnet.methods import FSDP, Dense, Method, method_names
from slimnet.methods.closing import prune
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
