"""DSD, structured DSD and stages against the specification."""

from __future__ import annotations

import pytest
import torch

from method_cases import adamw, closed_are_zero, on_a_line, places, run_epoch, sgd, start, step
from slimnet.criteria import magnitude_mask
from slimnet.errors import ArgumentError
from slimnet.methods import DSD, FPGM, FSDP, SFP, Dense, Method, OneShot, Stages, StructuredDSD
from slimnet.methods.phases import split_epochs
from slimnet.training.config import TrainConfig
from slimnet.training.optim import learning_rate
from tiny_net import tiny_groups, tiny_net

# -- sharing out epochs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "shares", "starts"),
    [
        (20, (2, 1, 1), (0, 10, 15)),
        (400, (200, 50, 50, 50, 50), (0, 200, 250, 300, 350)),
        (3, (100, 1, 1), (0, 1, 2)),
        (5, (1, 100, 1), (0, 1, 4)),
        (7, (1,), (0,)),
    ],
)
def test_epochs_are_shared_out_one_each_at_least(epochs, shares, starts):
    assert split_epochs(epochs, shares) == starts


def test_too_few_epochs_are_refused_before_any_work():
    with pytest.raises(ArgumentError, match="`epochs` must be at least 3, one for each phase, got 2"):
        TrainConfig(model="resnet8", method=DSD(), epochs=2)
    with pytest.raises(ArgumentError, match="`epochs` must be at least 3"):
        TrainConfig(model="resnet8", method=Stages((DSD(), 0.5), (FSDP(), 0.5)), epochs=4)


# -- DSD ---------------------------------------------------------------------------------------------------


def test_the_mask_drops_exactly_the_smallest():
    weight = torch.tensor([[3.0, -1.0, 0.5], [-4.0, 2.0, -0.1]])
    assert magnitude_mask(weight, 0.5).tolist() == [[True, False, False], [True, True, False]]
    assert magnitude_mask(weight, 0.1).all()  # ⌊0.6⌋ = 0
    ties = torch.tensor([1.0, -1.0, 2.0, 1.0])
    assert magnitude_mask(ties, 0.5).tolist() == [False, False, True, True]  # the lower index goes


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_the_mask_is_chosen_once_held_through_s_and_dropped_after(optimizer):
    model, pruner, opt, statistics = start(DSD(sparsity=0.5, lengths=(1, 3, 1)), epochs=5, optimizer=optimizer)
    run_epoch(model, pruner, opt, 0, statistics)
    assert not pruner.dropped
    expected = ~magnitude_mask(model.conv1.weight, 0.5)
    biases = [p.detach().clone() for n, p in model.named_parameters() if "bias" in n]
    pruner.before_epoch(1)
    assert all(torch.equal(p, before) for p, before in zip(_biases(model), biases, strict=True))
    for epoch in (1, 2, 3):
        if epoch > 1:
            pruner.before_epoch(epoch)
        for number in range(3):
            step(model, pruner, opt, 10 * epoch + number)
            assert torch.equal(pruner.dropped["conv1.weight"], expected)
            assert torch.equal(model.conv1.weight == 0, expected)
        pruner.after_epoch(epoch, statistics)
    assert "stem.weight" not in pruner.dropped  # the first layer stays dense
    assert (model.stem.weight != 0).all()
    pruner.before_epoch(4)
    assert not pruner.dropped
    assert (model.conv1.weight[expected] == 0).all()  # from zero …
    step(model, pruner, opt, 1)
    assert (model.conv1.weight[expected] != 0).any()  # … and on


def _biases(model):
    return [parameter.detach() for name, parameter in model.named_parameters() if "bias" in name]


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_momentum_does_not_revive_a_masked_weight(optimizer):
    model, pruner, opt, statistics = start(DSD(sparsity=0.5, lengths=(3, 1, 1)), epochs=5, optimizer=optimizer)
    for epoch in range(4):
        run_epoch(model, pruner, opt, epoch, statistics)
    dropped = pruner.dropped["conv1.weight"]
    state = opt.state[model.conv1.weight]
    momentum = state.get("momentum_buffer", state.get("exp_avg"))
    assert not momentum[dropped].any()
    assert momentum[~dropped].all()
    pruner.before_epoch(4)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    opt.step()  # no gradient: only what is left in the optimiser could move a weight
    pruner.after_step(opt)
    assert not model.conv1.weight[dropped].any()


def test_layers_can_be_chosen_and_frozen_ones_are_left_alone():
    model = tiny_net()
    assert set(DSD().weights(model)) == {"conv1.weight", "conv2.weight", "head.weight"}
    assert set(DSD(layers=("head", "st*"), dense_first=False).weights(model)) == {"stem.weight", "head.weight"}
    model.conv1.weight.requires_grad_(False)
    assert "conv1.weight" not in DSD().weights(model)
    with pytest.raises(ArgumentError, match=r"`layers` \['zz'\] leaves nothing to mask; .* stem, conv1, conv2, head"):
        DSD(layers=("zz",)).start(model, (), epochs=3)


def test_the_learning_rate_of_every_phase():
    method = DSD(phases="D-S-D-S-D")  # phases begin at 0, 4, 6, 8, 10
    assert [method.lr_limit(epoch, 12) for epoch in (0, 3.9, 4, 6, 8, 11)] == [1, 1, 1, 0.1, 0.1, 0.1]
    config = TrainConfig(model="resnet8", method=method, epochs=12, lr=0.2, schedule="constant", warmup_epochs=0)
    assert [learning_rate(config, epoch) for epoch in (0, 4, 6, 11)] == pytest.approx([0.2, 0.2, 0.02, 0.02])
    falling = TrainConfig(model="resnet8", method=method, epochs=12, lr=0.2, schedule="cosine", warmup_epochs=0)
    plain = TrainConfig(model="resnet8", epochs=12, lr=0.2, schedule="cosine", warmup_epochs=0)
    for epoch in range(12):
        limit = 0.02 if epoch >= 6 else 0.2
        assert learning_rate(falling, epoch) == pytest.approx(min(limit, learning_rate(plain, epoch)))
    reduced = DSD(phases="sd", lr_sparse=0.5)
    assert [reduced.lr_limit(epoch, 4) for epoch in (0, 2)] == [0.5, 0.1]


# -- structured DSD ----------------------------------------------------------------------------------------


def test_structured_phases_close_channels_and_give_them_back():
    method = StructuredDSD(sparsity=2 / 6, phases="SDS")
    model, pruner = on_a_line(method, epochs=3)
    before = model.bn1.weight.detach().clone()
    pruner.before_epoch(0)
    assert places(model) == [0, 0, 3, 4, 5, 6]
    assert (model.bn1.weight[:2] == 0).all()
    assert not pruner.is_closed()  # it is not the last phase
    with torch.no_grad():
        model.conv1.weight[5] = 0.01  # learned in the meantime: now the smallest
    pruner.before_epoch(1)
    assert places(model) == pytest.approx([0.1, 0.2, 3, 4, 5, 0.01])  # no norm behind, as far as this group knows
    assert torch.allclose(model.bn1.weight[:2], 0.1 * before[:2])
    assert pruner.mask.closed_share() == 0
    pruner.before_epoch(2)
    assert pruner.mask.closed()["conv1"].tolist() == [True, False, False, False, False, True]
    assert pruner.is_closed()
    assert closed_are_zero(model, pruner)


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_a_structured_mask_is_chosen_once_and_held(optimizer):
    model, pruner, opt, statistics = start(StructuredDSD(sparsity=0.4, phases="ds"), epochs=6, optimizer=optimizer)
    for epoch in range(4):
        run_epoch(model, pruner, opt, epoch, statistics)
    assert pruner.mask.closed_share() == 0
    pruner.before_epoch(4)
    chosen = {name: closed.clone() for name, closed in pruner.mask.closed().items()}
    for epoch in (4, 5):
        pruner.before_epoch(epoch)
        for number in range(3):
            step(model, pruner, opt, number)
            assert closed_are_zero(model, pruner)
    assert all(torch.equal(chosen[name], closed) for name, closed in pruner.mask.closed().items())


# -- stages ------------------------------------------------------------------------------------------------


def test_stages_run_one_after_another_with_epochs_of_their_own():
    method = Stages((DSD(phases="ds", lengths=(1, 1)), 0.5), (FSDP(rate_cs=0.0, rate_gm=0.4), 0.5))
    model, pruner, opt, statistics = start(method, epochs=8)
    logs = []
    for epoch in range(8):
        run_epoch(model, pruner, opt, epoch, statistics)
        logs.append(pruner.log())
        assert pruner.is_closed() == (epoch >= 6)
    assert [log["stage"] for log in logs] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [log.get("phase") for log in logs[:4]] == [0, 0, 1, 1]
    assert [log["rate"] for log in logs[4:]] == [FSDP(rate_cs=0.0).rate_schedule(2)(epoch) for epoch in range(4)]
    assert logs[-1]["closed_share"] == 7 / 18
    assert [method.lr_limit(epoch, 8) for epoch in (0, 7)] == [1, 1]


def test_stages_take_methods_names_and_dictionaries():
    method = Stages(("dense", 1), ({"name": "fpgm", "rate": 0.3}, 3))
    assert method == Stages((Dense(), 1.0), (FPGM(0.3), 3.0))
    assert Method.from_dict({"name": "stages", "stages": [["dense", 1], [{"name": "fpgm", "rate": 0.3}, 3]]}) == method
    assert method.lengths(8) == (2, 6)
    assert Stages((DSD(), 1), (FSDP(faithful=True), 1)).couple == "none"
    assert Stages((DSD(), 1), (FSDP(statistics_share=0.3), 1)).statistics_share == 0.3


def test_a_stage_that_cannot_work_shows_before_training():
    model = tiny_net()
    with pytest.raises(ArgumentError, match="closes no filter"):
        Stages((Dense(), 1), (SFP(0.01), 1)).start(model, tiny_groups(model), epochs=8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Stages, "`stages` must hold a"),
        (lambda: Stages((DSD(), 0.0)), "`stages` must be positive numbers, got 0.0"),
        (lambda: Stages(("dsx", 1.0)), "unknown method 'dsx'"),
        (lambda: Stages((Stages((Dense(), 1)), 1)), "must be a method such as FSDP"),
        (lambda: Stages((7, 1)), "must be a method such as FSDP"),
        (lambda: Stages((SFP(couple="none"), 1), (FSDP(), 1)), "`couple` must be the same in all stages, got none and stream"),
        (lambda: Method.from_dict({"name": "stages", "stages": "dsd"}), "`stages` must be a list of pairs, got 'dsd'"),
        (lambda: Method.from_dict({"name": "stages", "stages": ["dsd"]}), r"`stages` must be \(method, share\) pairs, got 'dsd'"),
        (lambda: DSD(phases="dd"), "`phases` must be d and s in turn with an s among them"),
        (lambda: DSD(phases="d"), "`phases` must be d and s in turn with an s among them"),
        (lambda: DSD(sparsity=1.0), r"`sparsity` must be in \(0, 1\), got 1.0"),
        (lambda: DSD(lengths=(1, 1)), "`lengths` must be 3 numbers, one a phase, got 2"),
        (lambda: DSD(lengths=(1, 0, 1)), r"`lengths` must be positive numbers, got \(1, 0, 1\)"),
        (lambda: DSD(lr_redense=0.0), r"`lr_redense` must be in \(0, 1\], got 0.0"),
        (lambda: StructuredDSD(phases="dsd"), "`phases` must end with s"),
        (lambda: StructuredDSD(criterion="cs"), "`criterion` must need weights only, got 'cs'"),
        (lambda: StructuredDSD(restart=0.0), r"`restart` must be in \(0, 1\], got 0.0"),
    ],
)
def test_bad_hyper_parameters_are_named_with_their_value(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_stage_closes_what_is_closed_from_its_start():
    """One-shot behind dense training: nothing is closed before its first epoch, all of it from then on; also as the first."""
    for method, closed in (
        (Stages((Dense(), 0.5), (OneShot(0.5), 0.5)), [0, 0, 0.5, 0.5]),
        (Stages((OneShot(0.5), 1)), [0.5] * 4),
    ):
        model, pruner, opt, statistics = start(method, epochs=4)
        pruner.begin(statistics)
        shares = []
        for epoch in range(4):
            run_epoch(model, pruner, opt, epoch, statistics)
            shares.append(pruner.log().get("closed_share", 0))
        assert shares == closed
        assert pruner.is_closed()
