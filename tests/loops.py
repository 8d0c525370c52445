"""A loop of one's own on a tiny network, with the method's hooks called by hand in the engine's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from method_cases import EPOCHS, adamw, sgd
from slimnet.attached import Attached, attach
from slimnet.attached.statistics import statistics_from
from slimnet.graph import ChannelGroup, channel_groups
from slimnet.methods import Method, Pruner
from slimnet.names import Couple
from tiny_net import TinyNet, tiny_net

__all__ = ["EPOCHS", "IMAGES", "LABELS", "adamw", "closed_set", "loader", "same", "sgd", "train", "train_by_hand"]

_DRAW = torch.Generator().manual_seed(0)
IMAGES = torch.randn(32, 1, 6, 6, generator=_DRAW)
LABELS = torch.randint(0, 3, (32,), generator=_DRAW)


def loader() -> DataLoader[Any]:
    """The same two batches of 16 every epoch."""
    return DataLoader(TensorDataset(IMAGES, LABELS), batch_size=16)


def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(images), labels)


def train(
    method: Method,
    optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer] = sgd,
    *,
    step: Callable[..., None] | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    epochs: int = EPOCHS,
    **options: Any,
) -> tuple[TinyNet, Attached, torch.optim.Optimizer]:
    """Train through ``attach``; ``step(model, optimizer, images, labels)`` is the loop's own."""
    model = tiny_net(8, 10)
    made = optimizer(model.parameters())
    forward = wrap(model)
    pruner = attach(forward, IMAGES[:2], method, epochs=epochs, data=loader(), **options)
    for epoch in range(epochs):
        with pruner.epoch(epoch):
            for images, labels in loader():
                (step or plain_step)(forward, made, images, labels)
    return model, pruner, made


def plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    loss(model, images, labels).backward()
    optimizer.step()
    optimizer.zero_grad()


@cache
def groups_of(couple: Couple) -> tuple[ChannelGroup, ...]:
    return channel_groups(tiny_net(8, 10), IMAGES[:2], couple=couple)


@cache
def train_by_hand(
    method: Method,
    optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer] = sgd,
    *,
    clip: float | None = None,
    parts: int = 1,
    context: Callable[[], Any] = nullcontext,
) -> tuple[TinyNet, Pruner, torch.optim.Optimizer]:
    """The same, with the pruner's hooks called as the engine used to: backward → gradients → clip → step → after_step."""
    model = tiny_net(8, 10)
    made = optimizer(model.parameters())
    pruner = method.start(model, groups_of(method.couple), epochs=EPOCHS)
    statistics = statistics_from(model, IMAGES[:2], loader(), 3)
    pruner.begin(statistics)
    for epoch in range(EPOCHS):
        pruner.before_epoch(epoch)
        for images, labels in loader():
            for some, their in zip(images.chunk(parts), labels.chunk(parts), strict=True):
                with context():
                    value = loss(model, some, their) / parts
                value.backward()
            pruner.after_backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            made.step()
            pruner.after_step(made)
            made.zero_grad()
        pruner.after_epoch(epoch, statistics)
    return model, pruner, made


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same weights and statistics, bit for bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def closed_set(pruner: Attached | Pruner) -> dict[str, list[int]]:
    """Group name → the channels that are closed."""
    mask = pruner.mask
    return {} if mask is None else {name: gone.nonzero().flatten().tolist() for name, gone in mask.closed().items()}
