"""Number format and memory format of a forward pass, and which of them was measured to be faster on this machine.

The measurement is taken once, then read again, so that a seed gives one network.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimnet._json import decode, read_text
from slimnet._modes import widened
from slimnet.errors import FileFormatError
from slimnet.files import write_json
from slimnet.measure.costs.store import default_folder
from slimnet.measure.machine import cpu_model
from slimnet.progress import each
from slimnet.training.config import TrainConfig
from slimnet.training.team import Team

_X86 = ("x86_64", "amd64")
TRIAL_IMAGES = 32
LEAST_ROUNDS, MOST_ROUNDS = 3, 10
MARGIN = 1.1
BUDGET = 5.0  # seconds after which no further round begins
_FORMAT = "slimnet-precision/1"

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


def has_bf16() -> bool:
    """Whether this processor computes in bfloat16, rather than imitate it; where nobody knows, it is measured."""
    if platform.machine().lower() not in _X86:
        return True
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask() for ask in asked if ask is not None)


def resolve_precision(config: TrainConfig, model: nn.Module, batch: tuple[Tensor, Tensor], team: Team) -> TrainConfig:
    """Replace ``"auto"`` by a choice: bf16 and channels_last on a GPU, what was measured to be faster on a CPU.

    A processor without instructions for bfloat16 is not asked: it takes ten times as long. What was measured once on a machine
    holds there from then on (see :func:`fastest`), so that the same command and seed give the same network again.

    Args:
        config: the settings, perhaps with ``"auto"``.
        model: the network, on its device; left as it is.
        batch: images (N, C, H, W) and labels (N,) as training will see them.
        team: the processes; rank 0 decides for all.

    Returns:
        The settings with a definite ``precision`` and ``channels_last``.
    """
    options = _options(config, has_bf16=team.device.type != "cpu" or has_bf16())
    best = options[0]
    if len(options) > 1 and team.device.type != "cpu":
        best = max(options, key=lambda option: (option[0] == "bf16", option[1]))
    elif len(options) > 1:
        best = team.share(fastest(options, model, batch) if team.is_main else best)
    return replace(config, precision=best[0], channels_last=best[1])


def _options(config: TrainConfig, *, has_bf16: bool) -> list[Option]:
    formats = ["fp32", *(["bf16"] if has_bf16 else [])] if config.precision == "auto" else [config.precision]
    layouts = [False, True] if config.channels_last == "auto" else [config.channels_last]
    options = [(number, layout) for number in formats for layout in layouts]
    slow = ("bf16", False)  # bfloat16 pays in channels_last only: not worth measuring where there is a choice
    return [option for option in options if option != slow] if len(layouts) > 1 else options


def fastest(options: Sequence[Option], model: nn.Module, batch: tuple[Tensor, Tensor]) -> Option:
    """The option whose step is shortest, as it was measured on this machine when it was first asked.

    The measurement is kept in the user's cache folder, for this processor, number of threads, version of torch, network (names
    and shapes of its tensors), images and options. Where that cannot be written, it is taken afresh each time.

    Args:
        options: at least one; of those within a tenth the first.
        model: the network, on its device; left as it is.
        batch: images (N, C, H, W) and labels (N,).
    """
    key = _key(options, model, batch[0][:TRIAL_IMAGES])
    path = _place(key)
    known = None if path is None else _read(path, key, options)
    if known is not None:
        return known
    seconds = measure(options, model, batch)
    chosen = clear_winner(seconds)
    if path is not None:
        rows = [{"precision": number, "channels_last": layout, "seconds": seconds[number, layout]} for number, layout in options]
        with suppress(OSError):
            write_json(path, {"format": _FORMAT, "about": key, "chosen": list(chosen), "measured": rows}, parents=True)
    return chosen


def measure(options: Sequence[Option], model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[Option, float]:
    """Seconds of the shortest step of each option, in interleaved rounds: a busy machine slows all of them alike."""
    with torch.random.fork_rng(devices=[]):
        trials = {option: _Trial(option, model, batch) for option in options}
        start, best = time.perf_counter(), dict.fromkeys(options, math.inf)
        for done in each(range(MOST_ROUNDS), "timing precisions", MOST_ROUNDS):
            for option, trial in trials.items():
                seconds = trial.step()
                best[option] = min(best[option], seconds if done else math.inf)  # the first round warms up
            if done >= LEAST_ROUNDS and time.perf_counter() - start > BUDGET:
                break
    return best


def clear_winner(seconds: Mapping[Option, float]) -> Option:
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


def _key(options: Sequence[Option], model: nn.Module, images: Tensor) -> dict[str, Any]:
    """All that the choice depends on, as JSON values."""
    tensors = [(name, list(tensor.shape)) for name, tensor in model.state_dict().items()]
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    return {
        "cpu": cpu_model(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "network": hashlib.blake2b(json.dumps([tensors, frozen]).encode(), digest_size=16).hexdigest(),
        "images": list(images.shape),
        "options": [list(option) for option in options],
    }


def _place(key: Mapping[str, Any]) -> Path | None:
    folder = default_folder()
    name = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()
    return None if folder is None else folder / f"precision-{name}.json"


def _read(path: Path, key: Mapping[str, Any], options: Sequence[Option]) -> Option | None:
    """What was chosen for just this; None where the file is missing, damaged or of something else."""
    try:
        content = decode(read_text(path), str(path))
        if content["format"] != _FORMAT or content["about"] != key:
            return None
        return next((option for option in options if list(option) == content["chosen"]), None)
    except (FileFormatError, KeyError, TypeError):
        return None
