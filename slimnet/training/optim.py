"""The optimiser of a run, and its learning rate as a pure function of the epoch."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from slimnet.training.config import TrainConfig

PUBLISHED_MILESTONES = (0.3, 0.6, 0.8)


def make_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """The optimiser over the trainable parameters of ``model``, as ``config`` asks for it."""
    groups = _parameter_groups(model, config)
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=True, weight_decay=config.weight_decay)


def _parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, object]]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.decay_norm:
        return [{"params": parameters}]
    decayed = [parameter for parameter in parameters if parameter.dim() > 1]
    plain = [parameter for parameter in parameters if parameter.dim() <= 1]
    return [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group, in place."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def learning_rate(config: TrainConfig, epoch: int, fraction: float = 0.0) -> float:
    """The learning rate at a point of a run: what the schedule says, within the limit of the method's phase.

    It depends on nothing else, so resuming needs no state of its own.

    Args:
        config: the settings of the run.
        epoch: the epoch, from 0.
        fraction: how much of the epoch is done, in [0, 1).

    Example:
        >>> config = TrainConfig(model="resnet20", epochs=200, lr=0.1)
        >>> [round(learning_rate(config, epoch), 6) for epoch in (0, 1, 60, 120, 160)]
        [0.01, 0.1, 0.02, 0.004, 0.0008]
    """
    limit = config.lr * config.method.lr_limit(epoch + fraction, config.epochs)
    return min(_scheduled(config, epoch, fraction), limit)


def _scheduled(config: TrainConfig, epoch: int, fraction: float) -> float:
    """What the schedule alone says, whatever the method."""
    now = epoch + fraction
    if now < config.warmup_epochs:
        return config.lr * (0.1 + 0.9 * now / config.warmup_epochs)
    if config.schedule == "step":
        return config.lr * config.gamma ** sum(epoch >= milestone for milestone in _milestones(config))
    if config.schedule == "cosine":
        span = max(config.epochs - config.warmup_epochs, 1e-9)
        return config.lr * 0.5 * (1 + math.cos(math.pi * (now - config.warmup_epochs) / span))
    return config.lr


def _milestones(config: TrainConfig) -> tuple[int, ...]:
    if config.milestones is not None:
        return config.milestones
    return tuple(round(share * config.epochs) for share in PUBLISHED_MILESTONES)
