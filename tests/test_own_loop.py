"""Masks in a loop of one's own: against the same by hand, and against the engine, bit for bit."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import slimnet
from loops import EPOCHS, IMAGES, LABELS, closed_set, loader, loss, plain_step, same, sgd, train, train_by_hand
from method_cases import CASES, OPTIMIZERS
from slimnet.attached import attach
from slimnet.methods import FPGM, FSDP, SFP, Dense, Method, NetworkSlimming, OneShot, StructuredDSD
from slimnet.training import TrainConfig
from slimnet.training import train as train_by_engine
from slimnet.training.job import prepare
from slimnet.training.optim import learning_rate, make_optimizer, set_learning_rate
from slimnet.training.state import seed_epoch
from slimnet.training.team import join_team
from tiny_net import tiny_net

FADING = FSDP(rate_cs=0.2, rate_gm=0.3)
ALL = [case.method for case in CASES if not getattr(case.method, "widths", ())]  # the table's names are of groups written by hand


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", ALL, ids=lambda method: repr(method)[:24])
def test_hooks_do_what_the_engine_did_by_hand(method: Method, optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    model, pruner, _ = train(method, optimizer)
    by_hand, seam, _ = train_by_hand(method, optimizer)
    assert same(model, by_hand)
    assert closed_set(pruner) == closed_set(seam)
    assert pruner.is_closed == seam.is_closed()


ENGINE: dict[str, dict[str, Any]] = {
    "fpgm": {"method": FPGM(0.4)},
    "fsdp, adamw": {"method": FADING, "optimizer": "adamw", "lr": 0.005},
    "slimming": {"method": NetworkSlimming(0.4, penalty=1e-3)},
    "one-shot": {"method": OneShot(0.4)},
}


@pytest.mark.parametrize("case", ENGINE)
def test_loop_is_the_engine(case: str, tmp_path: Path) -> None:
    """Same seed, same data: the same closed set and weights after the last epoch, in a loop of plain torch."""
    settings = {"data": "digits", "epochs": 4, "batch_size": 256, "lr": 0.05, "precision": "fp32", "channels_last": False,
                "device": "cpu", "cut": "never"} | ENGINE[case]  # fmt: skip
    train_by_engine(model="test_resume:small_net", out=tmp_path / "run", progress=False, **settings)
    engine = slimnet.files.read_tensors(tmp_path / "run" / "checkpoint.safetensors")

    config, team = TrainConfig(model="test_resume:small_net", **settings), join_team("cpu")
    job = prepare(config, team, say=lambda line: None)
    model, optimizer = job.model, make_optimizer(job.model, config)
    pruner = attach(model, job.example, config.method, epochs=config.epochs, data=lambda: job.statistics_batches.epoch(0))
    for epoch in range(config.epochs):
        seed_epoch(config.seed, epoch, team)
        with pruner.epoch(epoch):
            model.train()
            for step, (images, labels) in enumerate(job.train_batches.epoch(epoch)):
                set_learning_rate(optimizer, learning_rate(config, epoch, step / len(job.train_batches)))
                value = nn.functional.cross_entropy(model(images), labels, reduction="sum") * (1 / len(labels))
                value.backward()
                optimizer.step()
                optimizer.zero_grad()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, engine[f"model/{name}"]), name
    closed = {name: ~engine[f"pruner/scale.{name}"].bool() for name in pruner.mask.scale}
    assert {name: gone.nonzero().flatten().tolist() for name, gone in closed.items()} == closed_set(pruner)
    assert pruner.is_closed


def test_the_issue_snippet() -> None:
    """Gradients, momentum, selection and the cut; the slim network trains on with its optimiser's state."""
    model = tiny_net(8, 10)
    optimizer = sgd(model.parameters())
    pruner = slimnet.attach(model, IMAGES[:2], slimnet.FPGM(rate=0.4), epochs=EPOCHS)
    for epoch in range(EPOCHS):
        with pruner.epoch(epoch):
            for x, y in loader():
                loss(model, x, y).backward()
                optimizer.step()
                optimizer.zero_grad()
    masked = copy.deepcopy(model)
    result = pruner.slim(optimizer=optimizer)
    assert (result.model.stem.out_channels, result.model.conv1.out_channels) == (5, 6)
    assert torch.allclose(result.model.eval()(IMAGES), masked.eval()(IMAGES), atol=1e-5)
    assert {id(each) for each in optimizer.state} == {id(each) for each in result.model.parameters()}
    plain_step(result.model.train(), optimizer, IMAGES, LABELS)
    assert all(not each._backward_hooks for each in model.parameters())
    slimnet.export_onnx  # noqa: B018  # the name of the snippet is there


def test_target() -> None:
    model, pruner, optimizer = train(FPGM(0.4), target=slimnet.Budget(flops=0.85))
    widths = dict(pruner.method.widths)
    result = pruner.slim(optimizer=optimizer)
    full = slimnet.count(model, IMAGES[:1]).flops
    assert widths
    assert slimnet.count(result.model, IMAGES[:1]).flops <= 0.85 * full


# -- going on, and letting go --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", [FADING, StructuredDSD(sparsity=0.4), OneShot(0.4), SFP(0.4), Dense()])
def test_a_checkpoint_of_ones_own_goes_on(method: Method, optimizer: Any, tmp_path: Path) -> None:
    whole = train(method, optimizer)[0]
    model = tiny_net(8, 10)
    for first, last in ((0, 3), (3, EPOCHS)):
        made = optimizer(model.parameters())
        pruner = attach(model, IMAGES[:2], method, epochs=EPOCHS, data=loader())
        if first:
            saved = torch.load(tmp_path / "mine.pt", weights_only=True)
            model.load_state_dict(saved["model"])
            made.load_state_dict(saved["optimizer"])
            pruner.load_state_dict(saved["pruner"])
        for epoch in range(first, last):
            with pruner.epoch(epoch):
                for images, labels in loader():
                    plain_step(model, made, images, labels)
        state = {"model": model.state_dict(), "optimizer": made.state_dict(), "pruner": pruner.state_dict()}
        torch.save(state, tmp_path / "mine.pt")
        pruner.detach()
        model = tiny_net(8, 10, seed=5) if last < EPOCHS else model
    assert same(whole, model)


def test_widths_of_a_target_are_taken_over() -> None:
    model = tiny_net(8, 10)
    first = attach(model, IMAGES[:2], FPGM(0.4), epochs=EPOCHS, target=slimnet.Budget(flops=0.85))
    second = attach(model, IMAGES[:2], FPGM(0.4), epochs=EPOCHS, target=slimnet.Budget(flops=0.95))
    second.load_state_dict(first.state_dict())
    assert second.method == first.method
    assert second.mask.groups.keys() == first.mask.groups.keys()


def test_a_pruner_that_is_let_go_leaves_nothing_behind() -> None:
    from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

    before = len(_global_optimizer_pre_hooks), len(_global_optimizer_post_hooks)
    model, pruner, _ = train(FPGM(0.4))
    gone = weakref.ref(pruner)
    assert len(_global_optimizer_pre_hooks) == before[0] + 1
    del pruner, model
    gc.collect()
    assert gone() is None
    assert (len(_global_optimizer_pre_hooks), len(_global_optimizer_post_hooks)) == before


def test_detached_hooks_do_nothing() -> None:
    model, pruner, optimizer = train(FPGM(0.4))
    pruner.detach()
    nn.init.constant_(model.stem.weight, 0.1)
    plain_step(model, optimizer, IMAGES, LABELS)
    assert not (model.stem.weight.flatten(1).abs().sum(1) == 0).any()


def test_another_network_is_left_alone() -> None:
    _, pruner, _ = train(FPGM(0.4))
    other = tiny_net(8, 10)
    twin, optimizer = copy.deepcopy(other), None
    for network in (other, twin):
        optimizer = sgd(network.parameters())
        plain_step(network, optimizer, IMAGES, LABELS)
        pruner.detach()
    assert same(other, twin)
