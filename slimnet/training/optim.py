"""The optimiser of a run, its learning rate as a pure function of the epoch, and the running average of the weights.

References:
    Polyak & Juditsky, *Acceleration of Stochastic Approximation by Averaging*, 1992.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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
    limit = config.lr * config.method.lr_limit(epoch + fraction, config.laid_out)
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


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as flat tensors: ``"<parameter number>/<key>"``."""
    return {
        f"{number}/{key}": tensor
        for number, entry in optimizer.state_dict()["state"].items()
        for key, tensor in entry.items()
        if isinstance(tensor, Tensor)
    }


def load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put tensors back, in the memory format of their parameters (other strides may round differently)."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.state.clear()
    for name, tensor in tensors.items():
        number, _, key = name.partition("/")
        parameter = parameters[int(number)]
        optimizer.state[parameter][key] = laid_out_like(parameter, tensor)


def laid_out_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A tensor of the optimiser's state in the memory format of its parameter, where it has its shape."""
    like_parameter = tensor.shape == parameter.shape and tensor.dim() > 0
    return (torch.empty_like(parameter).copy_(tensor) if like_parameter else tensor).detach()


def make_average(model: nn.Module, decay: float) -> AveragedModel | None:
    r"""The exponential moving average of parameters and buffers; None for a decay of 0.

    After n steps the decay is :math:`\min(d, (1 + n) / (10 + n))`, so that short runs do not remember where they began.
    """
    if not decay:
        return None

    def update(means: Any, values: Any, count: Any) -> None:
        if not means[0].is_floating_point():  # counts and tables of indices have no average
            torch._foreach_copy_(means, values)
            return
        steps = int(average.n_averaged)  # on the CPU, where `count` is on the device
        get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(means, values, count)  # type: ignore[no-untyped-call]

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average
