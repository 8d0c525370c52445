"""Residual branches that close as a whole: found, faded, valued, cut."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import slimnet
from method_cases import Statistics, sgd
from slimnet.allocation import LiveFlops
from slimnet.criteria import branch_order
from slimnet.errors import ArgumentError
from slimnet.graph import channel_groups, residual_branches
from slimnet.methods import ASFP, FPGM, FSDP, SFP, OneShot, Stages
from slimnet.training import TrainConfig

IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
FIRST, LAST = "layer1.0.bn2", "layer3.0.bn2"


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return slimnet.build_model("resnet8", num_classes=3, in_channels=1)


def begun(method, *, epochs: int = 6):
    model = network()
    groups = channel_groups(model, IMAGES) + residual_branches(model, IMAGES)
    pruner = method.start(model, groups, epochs=epochs)
    return model, pruner, sgd(model.parameters()), Statistics(model)


@pytest.mark.parametrize(
    ("name", "branches"),
    [("resnet8", 3), ("resnet56", 27), ("vgg9_face", 0), ("resnet18", 8), ("resnet50", 16), ("mobilenet_v2", 10)],
)
def test_every_residual_branch_is_found(name, branches):
    model = slimnet.build_model(name, num_classes=3)
    found = residual_branches(model, torch.randn(2, 3, 64, 64))
    assert len(found) == branches
    assert all(branch.size == 1 and branch.is_branch and not branch.weights for branch in found)


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet50", "mobilenet_v2"])
def test_a_closed_branch_is_removed_exactly(name):
    model = slimnet.build_model(name, num_classes=3).eval()
    images = torch.randn(2, 3, 64, 64)
    branch = residual_branches(model, images)[0]
    for rows in branch.filters:
        nn.init.zeros_(model.get_parameter(rows.name))
    result = slimnet.slim(model, images)
    assert branch.name in {shut.module for shut in result.plan.shuts}
    assert not any(any(shut.values) for shut in result.plan.shuts)
    assert slimnet.count(result.model, images).flops < slimnet.count(model, images).flops


@pytest.mark.parametrize(
    "method",
    [
        FSDP(0.2, 0.2, branches=(FIRST, LAST)),
        SFP(0.4, branches=(FIRST, LAST)),
        ASFP(0.4, branches=(FIRST, LAST)),
        FPGM(0.4, branches=(FIRST, LAST)),
        OneShot(branches=(FIRST, LAST)),
        OneShot(0.5, score="cs", branches=(FIRST, LAST)),
        Stages((FPGM(0.4, branches=(FIRST, LAST)), 1)),
    ],
    ids=lambda method: method.name,
)
def test_any_method_of_the_family_closes_branches(method):
    model, pruner, optimizer, statistics = begun(method)
    pruner.begin(statistics)
    for epoch in range(6):
        run_epoch_of(model, pruner, optimizer, epoch, statistics)
    assert pruner.is_closed() and pruner.is_settled()
    for name in (FIRST, LAST):
        norm = model.get_submodule(name)
        assert not norm.weight.any() and not norm.bias.any()
    assert model.get_submodule("layer2.0.bn2").weight.any()
    assert len(slimnet.slim(model, IMAGES).plan.shuts) == 2


def run_epoch_of(model, pruner, optimizer, epoch, statistics):
    pruner.before_epoch(epoch)
    for number in range(2):
        generator = torch.Generator().manual_seed(10 * epoch + number)
        optimizer.zero_grad()
        logits = model(torch.randn(8, 1, 8, 8, generator=generator))
        nn.functional.cross_entropy(logits, torch.randint(0, 3, (8,), generator=generator)).backward()
        pruner.after_backward()
        optimizer.step()
        pruner.after_step(optimizer)
    pruner.after_epoch(epoch, statistics)


def test_branches_fade_one_after_another_by_the_scale_of_the_epoch():
    model, pruner, optimizer, statistics = begun(FSDP(0.25, 0.25, tau=2.0, branches=(FIRST, LAST)), epochs=10)
    seen = []
    for epoch in range(pruner.last_epoch + 1):
        run_epoch_of(model, pruner, optimizer, epoch, statistics)
        seen.append([float(pruner.mask.scale[name]) for name in (FIRST, LAST)])
    assert seen[0] == [1.0, 1.0]
    assert seen[1][0] == pytest.approx(pruner.scale(1)) and seen[1][1] == 1.0  # less than half of the rate: the first alone
    assert seen[-1] == [0.0, 0.0]
    assert [pair[0] for pair in seen] == sorted((pair[0] for pair in seen), reverse=True)


def test_a_width_of_zero_takes_the_branch_around_along():
    model, pruner, optimizer, statistics = begun(FPGM(0.4, widths=(("layer2.0.conv1", 0),)))
    for epoch in range(6):
        run_epoch_of(model, pruner, optimizer, epoch, statistics)
    assert not model.layer2[0].bn2.bias.any()
    (shut,) = slimnet.slim(model, IMAGES).plan.shuts
    assert not any(shut.values)


def test_live_flops_are_those_of_the_cut_network():
    model, pruner, _, statistics = begun(OneShot(0.5, branches=(LAST,)))
    groups = channel_groups(model, IMAGES) + residual_branches(model, IMAGES)
    flops = LiveFlops(model, groups, IMAGES)
    pruner.begin(statistics)
    convolutions = slimnet.count(slimnet.slim(model, IMAGES).model, IMAGES[:1]).flops
    assert flops.live(pruner.mask.closed()) == pytest.approx(convolutions, rel=0.02)  # pooling is not among the live ones


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: begun(OneShot(branches=("layer1.0.bn1",))),
            "'layer1.0.bn1', which is no residual branch; there are: layer1.0.bn2",
        ),
        (lambda: OneShot(branches=(FIRST, FIRST)), "`branches` must be different names"),
        (lambda: OneShot(branches=FIRST), "`branches` must be different names"),
        (lambda: OneShot(0.4, branches=(3,)), "`branches` must be different names"),
        (lambda: begun(OneShot()), "nothing would be closed: give a `rate`, `widths`, `branches` or a target"),
        (lambda: TrainConfig(model="resnet8", method=OneShot()), "nothing would be closed: give a `rate`"),
        (lambda: OneShot(1.0), "`rate` must be in [0, 1), got 1.0"),
        (lambda: OneShot(0.5, score="taylor"), "`score` 'taylor' needs gradients"),
        (lambda: OneShot(0.5, score="nosuch"), "unknown `criterion` 'nosuch'"),
    ],
)
def test_wrong_branches_are_named(make, message):
    with pytest.raises(ArgumentError, match=r".*") as caught:
        make()
    assert message in str(caught.value)


def test_the_order_is_greedy_and_leaves_the_network_as_it_was():
    model = network().train()
    branches = residual_branches(model, IMAGES)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batches = [(torch.randn(16, 1, 8, 8), torch.randint(0, 3, (16,))) for _ in range(2)]
    first, second = branch_order(model, branches, batches, 2)
    assert model.training and all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    names = [branch.name for branch in branches]
    for (name, loss), closed in ((first, ()), (second, (first[0],))):
        by_hand = {other: _loss(model, batches, *closed, other) for other in names if other not in closed}
        assert name == min(by_hand, key=by_hand.__getitem__)
        assert loss == pytest.approx(by_hand[name], rel=1e-5)
    with pytest.raises(ArgumentError, match="at most the 3 residual branches, got 4"):
        branch_order(model, branches, batches, 4)


@torch.no_grad()
def _loss(model, batches, *names):
    """The loss with branches closed, by hand: norms in training mode take the statistics of the batch."""
    closed = network().train()
    closed.load_state_dict(model.state_dict())
    for name in names:
        nn.init.zeros_(closed.get_submodule(name).weight)
        nn.init.zeros_(closed.get_submodule(name).bias)
    return sum(float(nn.functional.cross_entropy(closed(images), labels)) for images, labels in batches) / len(batches)
