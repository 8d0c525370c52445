"""Random filters: what any criterion must beat."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from slimnet.graph.groups import ChannelGroup
from slimnet.methods.base import Pruner
from slimnet.methods.regrow import RegrowMethod, RegrowPruner


@dataclass(frozen=True)
class ToyRandom(RegrowMethod):
    """SFP with random scores in place of norms, drawn anew every epoch."""

    name: ClassVar[str] = "toy-random"

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run (see :meth:`Method.start`)."""
        return RandomPruner(self, model, groups, epochs=epochs)


class RandomPruner(RegrowPruner):
    """SFP's pruner, but for the scores."""

    def scores(self, group: ChannelGroup, criterion: str, *, among: Tensor | None = None, **_: Any) -> Tensor:
        """(size,) in [0, 1): a function of the group's name and of the epoch, so that a resumed run draws the same."""
        seed = zlib.crc32(f"{group.name} {self._epoch}".encode())
        drawn = torch.rand(group.size, generator=Generator().manual_seed(seed), dtype=torch.float64)
        return drawn if among is None else torch.where(among, drawn, torch.inf)
