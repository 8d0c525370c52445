"""Training that shrinks with the network: the cut run ends like the masked one, and resumes bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import slimnet
from method_cases import Statistics, adamw, sgd
from slimnet.attached import close_average
from slimnet.errors import ArgumentError, SurgeryError
from slimnet.graph import channel_groups, residual_branches
from slimnet.methods import ASFP, FPGM, FSDP, SFP, Dense, OneShot, Stages
from slimnet.surgery import uncut
from slimnet.surgery.uncut import moves_constants
from slimnet.training import Interrupted, Run, train
from slimnet.training.loop import Loop
from slimnet.training.optim import make_average
from slimnet.training.state import State, Totals
from test_resume import assert_same, at_step

IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
BRANCH = "layer2.0.bn2"
METHODS = [
    OneShot(0.5),
    OneShot(0.4, score="gm", branches=(BRANCH,)),
    FSDP(0.2, 0.3, finetune_epochs=3),
    FPGM(0.4, widths=(("layer2.0.conv1", 0), ("layer1.0.conv1", 7)), finetune_epochs=3),
    SFP(0.3, finetune_epochs=3),
    ASFP(0.4, branches=(BRANCH,), finetune_epochs=3),
]


def begun(method, optimizer):
    torch.manual_seed(0)
    model = slimnet.build_model("resnet8", num_classes=3, in_channels=1).double()
    groups = channel_groups(model, IMAGES) + residual_branches(model, IMAGES)
    pruner = method.start(model, groups, epochs=5)
    state = State(
        model, optimizer(model.parameters()), pruner, Totals.zero(torch.device("cpu")), average=make_average(model, 0.9)
    )
    return state, Statistics(model)


def steps(state: State, epoch: int) -> None:
    state.model.train()
    state.pruner.before_epoch(epoch)
    for number in range(3):
        generator = torch.Generator().manual_seed(10 * epoch + number)
        images = torch.randn(16, 1, 8, 8, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 3, (16,), generator=generator)
        state.optimizer.zero_grad()
        nn.functional.cross_entropy(state.model(images), labels).backward()
        state.pruner.after_backward()
        state.optimizer.step()
        state.pruner.after_step(state.optimizer)
        state.average.update_parameters(state.model)


@pytest.mark.parametrize("optimizer", [sgd, adamw])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.name}-{len(method.branches)}-{len(method.widths)}")
def test_the_cut_network_trains_like_the_masked_one(method, optimizer):
    """In float64, weights, averages and answers of both agree to rounding, and what is put back has the zeros of the mask."""
    (masked, first), (cut, second) = begun(method, optimizer), begun(method, optimizer)
    for state, statistics in ((masked, first), (cut, second)):
        state.pruner.begin(statistics)
    for epoch in range(5):
        if cut.plan is None and cut.pruner.is_settled():
            cut.cut(slimnet.slim(cut.model, IMAGES).plan)
        for state, statistics in ((masked, first), (cut, second)):
            steps(state, epoch)
            state.pruner.after_epoch(epoch, statistics)
            close_average(state.average.module, state.model)
    assert cut.plan is not None and not moves_constants(cut.plan)
    assert sum(p.numel() for p in cut.model.parameters()) < sum(p.numel() for p in masked.model.parameters())
    for small, big in ((cut.model, masked.model), (cut.average.module, masked.average.module)):
        full = copy.deepcopy(masked.model)
        full.load_state_dict(uncut(cut.plan, small.state_dict(), masked.model.state_dict()))
        answers = [network.eval()(IMAGES) for network in (small, full, big)]
        assert torch.allclose(answers[0], answers[1], rtol=1e-9, atol=1e-9)
        assert torch.allclose(answers[0], answers[2], rtol=1e-6, atol=1e-6)
        for (name, put_back), trained in zip(full.named_parameters(), big.parameters(), strict=True):
            kept = put_back != 0
            assert torch.allclose(put_back[kept], trained[kept], rtol=1e-6, atol=1e-7), name
    assert cut.pruner.log() == masked.pruner.log()


def test_constants_are_not_put_back():
    model = slimnet.build_model("resnet8", num_classes=3, in_channels=1).eval()
    nn.init.zeros_(model.layer1[0].conv1.weight[:4])
    nn.init.constant_(model.layer1[0].bn1.bias, 2.0)  # above zero behind the ReLU
    result = slimnet.slim(model, IMAGES.float())
    assert moves_constants(result.plan)
    with pytest.raises(SurgeryError, match="cannot be made again"):
        uncut(result.plan, result.model.state_dict(), model.state_dict())


def test_what_does_not_fit_the_plan_is_named():
    model = slimnet.build_model("resnet8", num_classes=3, in_channels=1).eval()
    slimnet.prune(model, IMAGES.float(), rate=0.5)
    plan = slimnet.slim(model, IMAGES.float()).plan
    with pytest.raises(SurgeryError, match=r"conv1.weight has shape \(16, 1, 3, 3\), which does not fit the plan"):
        uncut(plan, model.state_dict(), model.state_dict())


RUNS: dict[str, dict[str, Any]] = {
    "at the start": {"method": OneShot(0.5, branches=(BRANCH,)), "ema": 0.9},
    "after the last selection": {"method": FSDP(0.2, 0.3, finetune_epochs=2), "precision": "bf16", "channels_last": True},
    "adamw": {"method": FPGM(0.5, finetune_epochs=2), "optimizer": "adamw", "lr": 1e-3},
}


def start(out: Path, case: str, **settings: Any) -> Run:
    given: dict[str, Any] = {"precision": "fp32", "channels_last": False, "epochs": 4, "batch_size": 256, "lr": 0.05}
    return train(out=out, model="resnet8", progress=False, device="cpu", **given | RUNS[case] | settings)


@pytest.mark.parametrize(("epoch", "step"), [(0, 2), (1, 4), (2, 2)])
@pytest.mark.parametrize("case", RUNS)
def test_a_run_resumes_bit_for_bit_across_the_cut(case, epoch, step, tmp_path, monkeypatch):
    expected = start(tmp_path / "whole", case)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_step(patch, epoch, step, 15)
        start(tmp_path / "run", case)
    assert_same(train(out=tmp_path / "run", resume=True, progress=False), expected)


def test_a_cut_run_is_exported_and_reported_as_any(tmp_path):
    from slimnet.commands import export_run, write_report

    run = start(tmp_path / "run", "at the start")
    masks = run.masks()
    assert {name: int(closed.sum()) for name, closed in masks.items()}["layer1.0.conv1"] == 8
    bundle = export_run(run.path, tmp_path / "bundle")
    assert bundle.cost_slim.flops == pytest.approx(run.metrics[-1]["live_flops"], rel=0.02)
    assert bundle.model["accuracy"]["slim"] == pytest.approx(run.result["test_accuracy"], abs=0.005)
    assert write_report(run.path).path.is_file()


def test_never_and_faithful_runs_keep_their_size(tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(Loop, "save", lambda self: sizes.append(sum(p.numel() for p in self.job.model.parameters())))
    start(tmp_path / "never", "at the start", cut="never")
    start(tmp_path / "faithful", "after the last selection", method=FPGM(0.5, faithful=True))
    assert set(sizes) == {sum(p.numel() for p in slimnet.build_model("resnet8", num_classes=10, in_channels=1).parameters())}
    with pytest.raises(ArgumentError, match="`cut` must be one of settled, never, got 'soon'"):
        start(tmp_path / "wrong", "at the start", cut="soon")


def zero_first_blocks():
    """A network whose residual branches end in norms that begin with a γ of 0, as timm's do."""
    model = slimnet.build_model("resnet8", num_classes=3, in_channels=1)
    for block in (model.layer1[0], model.layer2[0], model.layer3[0]):
        nn.init.zeros_(block.bn2.weight)
    return model


def test_what_is_zero_without_a_mask_is_not_cut():
    """Branches that training is to open stay, as they do behind a mask; frozen ones never will, and go."""
    for frozen in (False, True):
        model = zero_first_blocks()
        model.layer2[0].bn2.requires_grad_(not frozen)
        groups = channel_groups(model, IMAGES.float())
        pruner = OneShot(0.5).start(model, groups, epochs=2)
        state = State(model, sgd(model.parameters()), pruner, Totals.zero(torch.device("cpu")))
        pruner.begin(Statistics(model))
        state.cut(state.plan_cut(IMAGES.float(), masked_alone=True))
        assert state.model.layer1[0].conv1.weight.shape[0] == 8
        left = {name for name, _ in state.model.named_parameters()}
        assert {"layer1.0.conv2.weight", "layer3.0.conv2.weight"} <= left
        assert ("layer2.0.conv2.weight" in left) is not frozen


def test_the_best_epoch_is_cut_along():
    """Where it was closed as the network is: the same answers as at full size; where others were, it counts no more."""
    for same in (True, False):
        state, statistics = begun(OneShot(0.5), sgd)
        state.pruner.begin(statistics)
        steps(state, 0)
        close_average(state.average.module, state.model)
        state.note_best(0.5, 1.0)
        if not same:
            state.best.weights["layer1.0.conv1.weight"] += 1
        full = copy.deepcopy(state.model)
        full.load_state_dict(state.best.weights)
        state.cut(slimnet.slim(state.model, IMAGES).plan)
        assert (state.best is not None) is same
        if same:
            small = copy.deepcopy(state.model)
            small.load_state_dict(state.best.weights)
            assert torch.allclose(small.eval()(IMAGES), full.eval()(IMAGES), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", [FPGM(0.5, finetune_epochs=2), FSDP(0.2, 0.3, finetune_epochs=2)])
def test_stages_resume_across_the_cut(method, tmp_path, monkeypatch):
    given = {"method": Stages((Dense(), 1), (method, 3)), "ema": 0.9}
    expected = start(tmp_path / "whole", "at the start", **given)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_step(patch, 3, 2, 15)
        start(tmp_path / "run", "at the start", **given)
    assert_same(train(out=tmp_path / "run", resume=True, progress=False), expected)
    longer = train(out=tmp_path / "run", resume=True, progress=False, epochs=6)
    assert len(longer.metrics) == 6
