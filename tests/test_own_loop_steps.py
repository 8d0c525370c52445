"""What people do in their loops: clipping, accumulation, closures, AMP, several optimisers, averages, compiled networks."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import slimnet
from loops import EPOCHS, IMAGES, LABELS, adamw, loader, loss, plain_step, same, sgd, train, train_by_hand
from method_cases import OPTIMIZERS
from slimnet.attached import attach, close_average
from slimnet.methods import DSD, FPGM, FSDP, SFP, Method, NetworkSlimming, StructuredDSD
from tiny_net import tiny_net

FADING = FSDP(rate_cs=0.2, rate_gm=0.3)


def clipped(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    loss(model, images, labels).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    optimizer.zero_grad()


def finished(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    loss(model, images, labels).backward()
    RUNNING[0].finish_gradients(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    optimizer.zero_grad()


RUNNING: list[Any] = []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", [FPGM(0.4), FADING, StructuredDSD(sparsity=0.4)])
def test_clipping_sees_masked_gradients(method: Method, optimizer: Any) -> None:
    assert same(train(method, optimizer, step=clipped)[0], train_by_hand(method, optimizer, clip=0.1)[0])


@pytest.mark.parametrize("method", [SFP(0.4), NetworkSlimming(0.4, penalty=0.1), FADING])
def test_finished_gradients_are_clipped(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a method does to whole gradients comes before, where it is asked for."""
    entered = slimnet.Attached.epoch
    monkeypatch.setattr(slimnet.Attached, "epoch", lambda self, number: RUNNING.insert(0, self) or entered(self, number))
    own = train(method, step=finished)[0]
    assert same(own, train_by_hand(method, clip=0.1)[0])
    assert same(own, train(method, step=clipped)[0]) == (method is FADING)


def accumulated(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    for some, their in zip(images.chunk(4), labels.chunk(4), strict=True):
        (loss(model, some, their) / 4).backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("method", [FPGM(0.4), NetworkSlimming(0.4, penalty=0.1), StructuredDSD(sparsity=0.4), SFP(0.4)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_gradients_are_accumulated(method: Method, optimizer: Any) -> None:
    """Bit for bit where ζ is 0 or 1, or nothing is done before the step."""
    assert same(train(method, optimizer, step=accumulated)[0], train_by_hand(method, optimizer, parts=4)[0])


def test_accumulated_gradients_are_masked_once() -> None:
    """Of fading filters ζ · (g₁ + g₂ + …), and not ζ² · g₁ + …: the same but for rounding."""
    model, pruner, _ = train(FADING, epochs=EPOCHS)
    pruner = attach(model, IMAGES[:2], FADING, epochs=EPOCHS, data=loader())
    name, group = next(iter(pruner.pruner.groups.items()))
    zeta = torch.linspace(0, 1, group.size)
    pruner.mask.set(name, zeta)
    pruner._gradients.install()
    for part in range(4):
        loss(model, IMAGES[8 * part : 8 * part + 8], LABELS[8 * part : 8 * part + 8]).backward()
    got = {key: each.grad.clone() for key, each in model.named_parameters()}
    pruner.detach()
    model.zero_grad()
    for part in range(4):
        loss(model, IMAGES[8 * part : 8 * part + 8], LABELS[8 * part : 8 * part + 8]).backward()
    for rows in group.filters:
        full = model.get_parameter(rows.name).grad
        torch.testing.assert_close(got[rows.name], full * zeta.view(-1, *[1] * (full.dim() - 1)))


def closing(set_to_none: bool) -> Callable[..., None]:
    """A step through a closure."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
        def closure() -> Tensor:
            optimizer.zero_grad(set_to_none=set_to_none)
            value = loss(model, images, labels)
            value.backward()
            return value

        if set_to_none:
            optimizer.step(closure)
        else:
            optimizer.step(closure=closure)

    return step


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("method", [FADING, NetworkSlimming(0.4, penalty=0.1), SFP(0.4)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_closures(method: Method, optimizer: Any, set_to_none: bool) -> None:
    """Gradients are finished when the closure has made them; ``zero_grad`` of either kind."""
    assert same(train(method, optimizer, step=closing(set_to_none))[0], train_by_hand(method, optimizer)[0])


def amp(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(model, images, labels)
    value.backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_autocast(optimizer: Any) -> None:
    by_hand = train_by_hand(FADING, optimizer, context=lambda: torch.autocast("cpu", torch.bfloat16))
    assert same(train(FADING, optimizer, step=amp)[0], by_hand[0])


def fused_adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1, fused=True)


def fused_sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)


@pytest.mark.parametrize("method", [FADING, NetworkSlimming(0.4, penalty=0.1)])
@pytest.mark.parametrize("optimizer", [sgd, adamw, fused_sgd, fused_adamw])
def test_loss_scaler(method: Method, optimizer: Any) -> None:
    """A factor of 2ⁿ changes nothing, also where the optimiser divides it out itself: the penalty is scaled along."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10**6)

    def scaled(model: nn.Module, made: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
        scaler.scale(loss(model, images, labels)).backward()
        scaler.step(made)
        scaler.update()
        made.zero_grad()

    assert same(train(method, optimizer, step=scaled)[0], train_by_hand(method, optimizer)[0])


def test_a_skipped_step_changes_nothing() -> None:
    model = tiny_net(8, 10)
    optimizer, scaler = sgd(model.parameters()), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    pruner = attach(model, IMAGES[:2], FPGM(0.4), epochs=EPOCHS)
    before = copy.deepcopy(list(model.parameters()))
    with pytest.raises(slimnet.SlimnetError, match="no optimiser made a step"), pruner.epoch(0):
        scaler.scale(loss(model, IMAGES * torch.inf, LABELS)).backward()
        scaler.step(optimizer)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("method", [SFP(0.4), NetworkSlimming(0.4, penalty=0.1)])
def test_gradients_are_finished_again_after_a_skipped_step(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that a loss scaler skips leave nothing behind: those that are made are as if there had been no others."""
    entered = slimnet.Attached.epoch
    monkeypatch.setattr(slimnet.Attached, "epoch", lambda self, number: RUNNING.insert(0, self) or entered(self, number))

    def sometimes(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
        kept = copy.deepcopy(model.state_dict())
        loss(model, images, labels).backward()
        RUNNING[0].finish_gradients(optimizer)
        optimizer.zero_grad()
        model.load_state_dict(kept)
        finished(model, optimizer, images, labels)

    assert same(train(method, step=sometimes)[0], train(method, step=finished)[0])


def test_gradients_of_two_optimizers_are_finished_once_each() -> None:
    def twice(ahead: bool) -> nn.Module:
        model = tiny_net(8, 10)
        halves = list(model.parameters())[::2], list(model.parameters())[1::2]
        both = [sgd(half) for half in halves]
        pruner = attach(model, IMAGES[:2], NetworkSlimming(0.4, penalty=0.1), epochs=1)
        with pruner.epoch(0):
            loss(model, IMAGES, LABELS).backward()
            for optimizer in both if ahead else ():
                pruner.finish_gradients(optimizer)
            for optimizer in both:
                optimizer.step()
        return model

    assert same(twice(True), twice(False))


def hooks_of(model: nn.Module) -> set[int]:
    """How many hooks the parameters have."""
    return {len(parameter._backward_hooks or ()) for parameter in model.parameters()}


def test_hooks_go_with_the_pruner() -> None:
    """Who attaches anew, as when a cell of a notebook runs again, has the new pruner's masks alone."""
    model = tiny_net(8, 10)
    optimizer = sgd(model.parameters())
    pruner = attach(model, IMAGES[:2], FPGM(0.6), epochs=4)
    with pruner.epoch(0):
        plain_step(model, optimizer, IMAGES, LABELS)
    assert hooks_of(model) == {0, 1}
    pruner = attach(model, IMAGES[:2], FPGM(0.2), epochs=4)
    gc.collect()
    assert hooks_of(model) == {0}
    with pruner.epoch(0):
        plain_step(model, optimizer, IMAGES, LABELS)
    assert hooks_of(model) == {0, 1}


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(backend: str) -> None:
    torch._dynamo.reset()
    model, pruner, _ = train(FADING, wrap=lambda model: torch.compile(model, backend=backend))
    assert same(model, train_by_hand(FADING)[0])
    assert pruner.slim().model.stem.out_channels == 4


@pytest.mark.parametrize("inner", OPTIMIZERS)
@pytest.mark.parametrize("method", [FPGM(0.4), NetworkSlimming(0.4, penalty=0.1), DSD(), StructuredDSD(sparsity=0.4), FADING])
def test_several_optimizers(method: Method, inner: Any) -> None:
    """One of the weights and one of all else do what one of everything does; parameter groups too."""
    made: list[torch.optim.Optimizer] = []

    def split(parameters: Any) -> torch.optim.Optimizer:
        several = list(parameters)
        made[:] = [inner([each for each in several if each.dim() > 1]), inner([each for each in several if each.dim() == 1])]
        return made[0]

    def step(model: nn.Module, _: Any, images: Tensor, labels: Tensor) -> None:
        loss(model, images, labels).backward()
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad()

    by_hand = train_by_hand(method, inner)[0]
    assert same(train(method, split, step=step)[0], by_hand)

    def grouped(parameters: Any) -> torch.optim.Optimizer:
        several = list(parameters)
        return inner([{"params": several[:3]}, {"params": several[3:], "lr": several and 0.05 if inner is sgd else 0.01}])

    assert same(train(method, grouped)[0], by_hand)


@pytest.mark.parametrize("kind", ["torch", "timm"])
def test_averages_close_with_the_network(kind: str) -> None:
    """An average is cut by ``slim`` as the network is, once what is closed has no past in it."""
    from timm.utils import ModelEmaV3

    averages: list[Any] = []

    def averaged(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
        if not averages:
            new = (
                AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5)) if kind == "torch" else ModelEmaV3(model, decay=0.5)
            )
            averages.append(new)
        plain_step(model, optimizer, images, labels)
        averages[0].update_parameters(model) if kind == "torch" else averages[0].update(model)

    model, pruner, _ = train(FADING, step=averaged)
    inside = averages[0].module
    assert slimnet.slim(inside, IMAGES[:2]).model.stem.out_channels > 4  # it remembers
    pruner.close(inside)
    assert slimnet.slim(inside, IMAGES[:2]).model.stem.out_channels == 4
    assert not same(model, inside)
    with pytest.raises(slimnet.SlimnetError, match=r"has no 'stem\.weight'"):
        close_average(nn.Linear(2, 2), model)
