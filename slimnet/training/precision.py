"""Number format and memory format of training: what is faster on this machine, chosen once and recorded."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from slimnet.training.config import TrainConfig
from slimnet.training.distributed import Team

_X86 = ("x86_64", "amd64")

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
    """Replace ``"auto"`` by a choice: bf16 and channels_last on a GPU, what was measured to be faster on a CPU.

    A processor without instructions for bfloat16 is not asked: it takes ten times as long. What was measured once on a machine
    holds there from then on (see `slimnet.training.trials`), so that the same command and seed give the same network again.

    Args:
        config: the settings, perhaps with ``"auto"``.
        model: the network, on its device; left as it is.
        batch: images (N, C, H, W) and labels (N,) as training will see them.
        team: the processes; rank 0 decides for all.

    Returns:
        The settings with a definite ``precision`` and ``channels_last``.
    """
    from slimnet.training.trials import fastest

    options = _options(config, has_bf16=team.device.type != "cpu" or has_bf16())
    best = options[0]
    if len(options) > 1 and team.device.type != "cpu":
        best = max(options, key=lambda option: (option[0] == "bf16", option[1]))
    elif len(options) > 1:
        best = team.share(fastest(options, model, batch) if team.is_main else best)
    return replace(config, precision=best[0], channels_last=best[1])


def has_bf16() -> bool:
    """Whether this processor computes in bfloat16, rather than imitate it; where nobody knows, it is measured."""
    if platform.machine().lower() not in _X86:
        return True
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask() for ask in asked if ask is not None)


def _options(config: TrainConfig, *, has_bf16: bool) -> list[Option]:
    formats = ["fp32", *(["bf16"] if has_bf16 else [])] if config.precision == "auto" else [config.precision]
    layouts = [False, True] if config.channels_last == "auto" else [config.channels_last]
    options = [(number, layout) for number in formats for layout in layouts]
    slow = ("bf16", False)  # bfloat16 pays in channels_last only: not worth measuring where there is a choice
    return [option for option in options if option != slow] if len(layouts) > 1 else options
