"""Number format and memory format of a forward pass."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slimnet.training.config import TrainConfig

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


def has_bf16() -> bool:
    """Whether this processor computes in bfloat16, rather than imitate it; where nobody knows, it is measured."""
    if platform.machine().lower() not in _X86:
        return True
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask() for ask in asked if ask is not None)
