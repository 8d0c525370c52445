"""Number format and memory format of training: what is faster on this machine, chosen once and recorded."""

from __future__ import annotations

import copy
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimnet.training.config import TrainConfig
from slimnet.training.distributed import Team

TRIAL_IMAGES = 32
LEAST_ROUNDS, MOST_ROUNDS = 3, 10
MARGIN = 1.1
BUDGET = 5.0  # seconds after which no further round begins

Option = tuple[str, bool]
"""Number format, and whether in channels_last."""


@dataclass(frozen=True)
class Precision:
    """How a forward pass computes.

    Attributes:
        bf16: whether convolutions and products run in bfloat16 (weights stay float32).
        channels_last: whether images and weights lie in memory as (N, H, W, C).
        device: type of the device, e.g. ``"cpu"``.
    """

    bf16: bool
    channels_last: bool
    device: str

    @classmethod
    def of(cls, config: TrainConfig, device: torch.device) -> Precision:
        """The precision that a configuration without ``"auto"`` asks for."""
        return cls(config.precision == "bf16", config.channels_last is True, device.type)

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the forward pass runs."""
        return torch.autocast(self.device, dtype=torch.bfloat16) if self.bf16 else nullcontext()

    def images(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images in this memory format."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def model(self, model: nn.Module) -> nn.Module:
        """``model`` with its weights in this memory format, in place."""
        return model.to(memory_format=torch.channels_last) if self.channels_last else model


def widened(tensor: Tensor) -> Tensor:
    """``tensor`` in float32 where it is of half precision; as it is otherwise."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def resolve_precision(config: TrainConfig, model: nn.Module, batch: tuple[Tensor, Tensor], team: Team) -> TrainConfig:
    """Replace ``"auto"`` by a choice: bf16 and channels_last on a GPU, what is measured to be faster on a
    CPU.

    Args:
        config: the settings, perhaps with ``"auto"``.
        model: the network, on its device; left as it is.
        batch: images (N, C, H, W) and labels (N,) as training will see them.
        team: the processes; rank 0 decides for all.

    Returns:
        The settings with a definite ``precision`` and ``channels_last``.
    """
    options = _options(config)
    best = options[0]
    if len(options) > 1 and team.device.type != "cpu":
        best = max(options, key=lambda option: (option[0] == "bf16", option[1]))
    elif len(options) > 1:
        best = team.share(_fastest(options, model, batch) if team.is_main else best)
    return replace(config, precision=best[0], channels_last=best[1])


def _options(config: TrainConfig) -> list[Option]:
    formats = ["fp32", "bf16"] if config.precision == "auto" else [config.precision]
    layouts = [False, True] if config.channels_last == "auto" else [config.channels_last]
    options = [(number, layout) for number in formats for layout in layouts]
    slow = ("bf16", False)  # bfloat16 pays in channels_last only: not worth measuring where there is a choice
    return [option for option in options if option != slow] if len(layouts) > 1 else options


def _fastest(options: list[Option], model: nn.Module, batch: tuple[Tensor, Tensor]) -> Option:
    """The option of the shortest step, in interleaved rounds: a busy machine slows all of them alike."""
    with torch.random.fork_rng(devices=[]):
        trials = {option: _Trial(option, model, batch) for option in options}
        start, best = time.perf_counter(), dict.fromkeys(options, math.inf)
        for done in range(MOST_ROUNDS):
            for option, trial in trials.items():
                seconds = trial.step()
                best[option] = min(best[option], seconds if done else math.inf)  # the first round warms up
            if done >= LEAST_ROUNDS and time.perf_counter() - start > BUDGET:
                break
    return _clear_winner(best)


def _clear_winner(seconds: dict[Option, float]) -> Option:
    """The first option, or a later one that is faster by a margin: near a tie the choice should not be chance."""
    options = iter(seconds)
    winner = next(options)
    for option in options:
        if seconds[option] * MARGIN < seconds[winner]:
            winner = option
    return winner


class _Trial:
    """A copy of a network that takes steps in one precision."""

    def __init__(self, option: Option, model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
        self.images, self.labels = batch[0][:TRIAL_IMAGES], batch[1][:TRIAL_IMAGES]
        self.precision = Precision(option[0] == "bf16", option[1], self.images.device.type)
        self.model = self.precision.model(copy.deepcopy(model)).train()

    def step(self) -> float:
        """Seconds of one forward and backward pass."""
        start = time.perf_counter()
        with self.precision.autocast():
            logits = self.model(self.precision.images(self.images))
        torch.autograd.backward(F.cross_entropy(widened(logits), self.labels))
        return time.perf_counter() - start
