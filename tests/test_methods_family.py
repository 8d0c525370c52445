"""SFP, ASFP, FPGM, SRFP, ASRFP and network slimming against the specification."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from method_cases import adamw, on_a_line, places, run_epoch, sgd, start, step
from slimnet.errors import ArgumentError
from slimnet.methods import ASFP, ASRFP, FPGM, FSDP, SFP, SRFP, Method, NetworkSlimming, SoftMethod
from slimnet.schedules import asymptotic
from tiny_net import tiny_groups, tiny_net


def _nothing(modules):
    raise AssertionError("these methods need no data")


# -- schedules -------------------------------------------------------------------------------------------


def _values(schedule, epochs=(0, 1, 25, 100, 199)):
    return [schedule(epoch) for epoch in epochs]


def test_the_schedules_of_every_method():
    rise = _values(asymptotic(0.4, 199, 8.0))
    fall = [1 - value / 0.4 for value in rise]
    expected = {
        SFP(0.4): ([0.4] * 5, [0] * 5),
        FPGM(0.4): ([0.4] * 5, [0] * 5),
        ASFP(0.4): (rise, [0] * 5),
        SRFP(0.4): ([0.4] * 5, fall),
        ASRFP(0.4): (rise, fall),
        NetworkSlimming(0.4): ([0, 0, 0, 0, 0.4], [0] * 5),
    }
    for method, (rates, scales) in expected.items():
        assert _values(method.rate_schedule(199)) == pytest.approx(rates), method
        assert _values(method.scale_schedule(199)) == pytest.approx(scales), method
        assert method.scale_schedule(199)(199) == 0
        assert method.rate_schedule(0)(0) == 0.4  # a single pruning epoch


def test_asfp_rises_through_its_three_anchors():
    rate = ASFP(0.4).rate_schedule(200)
    assert [rate(0), rate(200 / 8), rate(200)] == pytest.approx([0, 0.3, 0.4])


# -- masks of every epoch, worked by hand: filters at 1 … 6 on a line ---------------------------------------


def test_sfp_takes_the_smallest_anew_every_epoch_and_lets_them_regrow():
    model, pruner = on_a_line(SFP(2 / 6, finetune_epochs=1), epochs=3)
    pruner.after_epoch(0, _nothing)
    assert places(model) == [0, 0, 3, 4, 5, 6]
    assert not pruner.is_closed()  # its norms are still open
    assert (model.bn1.weight != 0).all()
    with torch.no_grad():
        model.conv1.weight[0, 0, 1, 1] = 10.0  # it regrew past all the others
    pruner.after_epoch(1, _nothing)
    assert places(model) == [10, 0, 0, 4, 5, 6]
    assert pruner.is_closed()
    assert model.bn1.weight.eq(0).tolist() == model.bn1.bias.eq(0).tolist() == [False, True, True, False, False, False]
    pruner.after_epoch(2, _nothing)
    assert places(model) == [10, 0, 0, 4, 5, 6]


def test_asfp_closes_more_from_epoch_to_epoch():
    model, pruner = on_a_line(ASFP(4 / 6, tau=2.0, finetune_epochs=0), epochs=3)  # θ: 0, 3/6, 4/6
    for epoch, expected in enumerate([[1, 2, 3, 4, 5, 6], [0, 0, 0, 4, 5, 6], [0, 0, 0, 0, 5, 6]]):
        pruner.after_epoch(epoch, _nothing)
        assert places(model) == expected


def test_fpgm_takes_the_middle():
    # Sums of distances: 15, 11, 9, 9, 11, 15: filters 2 and 3.
    model, pruner = on_a_line(FPGM(2 / 6), epochs=3)
    pruner.after_epoch(0, _nothing)
    assert pruner.selected["conv1"].tolist() == [2, 3]
    assert places(model) == [1, 2, 0, 0, 5, 6]


def test_fpgm_mix_takes_the_smallest_first_and_then_the_middle_of_the_rest():
    # Filter 0 by norm; among 2 … 6 the sums are 10, 7, 6, 7, 10: filter 3, then 2 (2 and 4 tie).
    model, pruner = on_a_line(FPGM(3 / 6, rate_norm=1 / 6), epochs=3)
    pruner.after_epoch(0, _nothing)
    assert pruner.selected["conv1"].tolist() == [0, 3, 2]
    assert places(model) == [0, 2, 0, 0, 5, 6]
    assert FPGM(0.4, rate_norm=0.1).counts(64) == (6, 19)


def test_srfp_multiplies_by_alpha_epoch_after_epoch():
    method = SRFP(2 / 6, tau=2.0, finetune_epochs=0)
    model, pruner = on_a_line(method, epochs=5)
    alpha, expected = method.scale_schedule(4), 1.0
    for epoch in range(5):
        pruner.after_epoch(epoch, _nothing)
        expected *= alpha(epoch)
        assert places(model) == pytest.approx([expected, 2 * expected, 3, 4, 5, 6])
    assert alpha(0) == 1
    assert alpha(2) == pytest.approx(0.25)
    assert places(model)[:2] == [0, 0]


def test_asrfp_selects_more_and_shrinks_further_together():
    model, pruner = on_a_line(ASRFP(4 / 6, tau=2.0, finetune_epochs=0), epochs=3)
    for epoch, expected in enumerate([[1, 2, 3, 4, 5, 6], [0.25, 0.5, 0.75, 4, 5, 6], [0, 0, 0, 0, 5, 6]]):
        pruner.after_epoch(epoch, _nothing)
        assert places(model) == pytest.approx(expected)


# -- gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_fpgm_holds_its_zeros_for_the_epoch_and_sfp_does_not(optimizer):
    for method, moves in ((FPGM(0.4), False), (SFP(0.4), True)):
        model, pruner, opt, statistics = start(method, epochs=10, optimizer=optimizer)
        run_epoch(model, pruner, opt, 0, statistics)
        closed = pruner.mask.closed()["conv1"]
        step(model, pruner, opt, 1)
        step(model, pruner, opt, 2)
        assert bool((model.conv1.weight[closed] != 0).any()) is moves, method


def test_a_regrowing_filter_gets_no_more_gradient_than_the_others():
    model = tiny_net(width=8, inner=10)
    group = replace(tiny_groups(model)[1], normed=frozenset({"conv1.weight"}))
    for method in (SFP(0.4), SFP(0.4, clip_regrowth=False)):
        pruner = method.start(model, [group], epochs=10)
        pruner.after_epoch(0, _nothing)
        closed = pruner.mask.closed()["conv1"]
        model.zero_grad()
        model(torch.randn(8, 1, 6, 6)).square().sum().backward()
        pruner.after_backward()
        size = model.conv1.weight.grad.flatten(1).norm(dim=1)
        ratio = float(size[closed].max() / size[~closed].mean())
        assert ratio <= 1.0001 if method.clip_regrowth else ratio > 10, ratio


def test_a_group_that_closes_whole_does_not_regrow():
    model = tiny_net(width=8, inner=10)
    group = replace(tiny_groups(model)[1], normed=frozenset({"conv1.weight"}))
    pruner = SFP(0.4, widths=(("conv1", 0),)).start(model, [group], epochs=10)
    pruner.after_epoch(0, _nothing)
    assert len(pruner.selected["conv1"].unique()) == 10
    model(torch.randn(8, 1, 6, 6)).square().sum().backward()
    assert float(model.conv1.weight.grad.abs().max()) > 0
    pruner.after_backward()
    assert float(model.conv1.weight.grad.abs().max()) == 0


# -- network slimming ------------------------------------------------------------------------------------


def test_slimming_penalises_norm_scales_until_it_selects():
    model, pruner, *_ = start(NetworkSlimming(0.4, penalty=0.5), epochs=4)
    with torch.no_grad():
        model.bn1.weight[0] = -1.0
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    pruner.after_backward()
    assert model.bn1.weight.grad.tolist() == [-0.5] + [0.5] * 9
    assert model.bn2.weight.grad.tolist() == [0.5] * 8
    assert not model.bn1.bias.grad.any()
    assert not model.conv1.weight.grad.any()
    pruner.after_epoch(pruner.last_epoch, _nothing)
    model.bn1.weight.grad.zero_()
    pruner.after_backward()
    assert not model.bn1.weight.grad.any()


@pytest.mark.parametrize(("ranking", "stem", "inner"), [("global", [0], [1, 2, 4]), ("group", [0], [1, 4])])
def test_slimming_closes_the_smallest_scales_once(ranking, stem, inner):
    model = tiny_net(width=4, inner=6)
    with torch.no_grad():  # the stream's |γ| is the mean of its two norms: 0.3, 0.9, 0.8, 0.7
        model.bn.weight.copy_(torch.tensor([0.5, 0.9, 0.8, 0.7]))
        model.bn2.weight.copy_(torch.tensor([-0.1, 0.9, 0.8, 0.7]))
        model.bn1.weight.copy_(torch.tensor([1.0, 0.1, -0.4, 1.0, 0.2, 1.0]))
    pruner = NetworkSlimming(0.4, ranking=ranking).start(model, tiny_groups(model), epochs=4)
    pruner.after_epoch(0, _nothing)
    assert pruner.mask.closed_share() == 0
    pruner.after_epoch(1, _nothing)
    closed = {name: closed.nonzero().flatten().tolist() for name, closed in pruner.mask.closed().items()}
    assert closed == {"stem": stem, "conv1": inner}
    assert (model.bn1.weight[inner] == 0).all()
    assert (model.conv1.weight[inner] == 0).all()


def test_slimming_leaves_groups_without_norms_alone():
    model = tiny_net()
    bare = [replace(group, norms=()) for group in tiny_groups(model)]
    with pytest.raises(ArgumentError, match="no channel group of this network may be pruned"):
        NetworkSlimming(0.4).start(model, bare, epochs=4)


# -- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SFP, ASFP, FPGM, SRFP, ASRFP])
def test_faithful_is_the_published_recipe(kind):
    method = kind(0.4, faithful=True)
    assert (method.couple, method.mask_norm, method.mask_momentum, method.clip_regrowth) == ("none", False, False, False)
    assert (method.finetune_epochs, method.convolutions_only) == (0, True)
    assert method.mask_gradients == (kind is FPGM)


def test_groups_can_be_left_alone_by_name():
    model = tiny_net(width=8, inner=10)
    pruner = SFP(0.4, ignore=["st*"]).start(model, tiny_groups(model), epochs=3)
    assert list(pruner.groups) == ["conv1"]
    with pytest.raises(ArgumentError, match="`ignore` 'zz' matches no channel group; there are: stem, conv1"):
        SFP(0.4, ignore=("zz",)).start(model, tiny_groups(model), epochs=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "sfp", "rate": 1.0}, r"`rate` must be in \(0, 1\), got 1.0"),
        ({"name": "sfp", "rate": float("nan")}, r"`rate` must be in \(0, 1\), got nan"),
        ({"name": "sfp", "rate": "much"}, r"`rate` must be in \(0, 1\), got 'much'"),
        ({"name": "sfp", "rate": True}, r"`rate` must be in \(0, 1\), got True"),
        ({"name": "sfp", "mask_norm": 1}, "`mask_norm` must be true or false, got 1"),
        ({"name": "sfp", "finetune_epochs": 1.5}, "`finetune_epochs` must be a whole number of at least 0, got 1.5"),
        ({"name": "sfp", "ignore": "conv1"}, "`ignore` must be patterns of names, got 'conv1'"),
        ({"name": "sfp", "rat": 0.4}, "has no hyper-parameter 'rat': did you mean `rate`"),
        ({"name": "asfp", "tau": 1.0}, "`tau` must be above 4/3, got 1.0"),
        ({"name": "fpgm", "rate": 0.3, "rate_norm": 0.4}, r"`rate_norm` must be in \[0, `rate`\], got 0.4 of 0.3"),
        ({"name": "srfp", "attenuation": 2.0}, r"`attenuation` must be in \(0, 1\], got 2.0"),
        ({"name": "network-slimming", "penalty": -1.0}, "`penalty` must be 0 or a positive number, got -1.0"),
        ({"name": "network-slimming", "ranking": "all"}, "`ranking` must be one of group, global, got 'all'"),
    ],
)
def test_bad_hyper_parameters_are_named_with_their_value(values, message):
    with pytest.raises(ArgumentError, match=message):
        Method.from_dict(values)


def test_every_soft_method_names_its_published_fields():
    for kind in (FSDP, SFP, ASFP, FPGM, SRFP, ASRFP, NetworkSlimming):
        assert issubclass(kind, SoftMethod)
        assert set(kind.published) <= set(kind.hyper_parameters())
