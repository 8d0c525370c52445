"""Dense: plain training, as a method, so that the engine has one path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from slimnet.graph.groups import ChannelGroup
from slimnet.methods.base import Method, Pruner, Statistics


class _DensePruner(Pruner):
    """Does nothing, at no cost."""

    def before_epoch(self, epoch: int) -> None:
        pass

    def after_backward(self) -> None:
        pass

    def after_step(self, optimizer: Optimizer) -> None:
        pass

    def after_epoch(self, epoch: int, statistics: Statistics) -> None:
        pass

    def is_closed(self) -> bool:
        return True

    def log(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"tensors": {}, "values": {}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Dense(Method):
    """Plain training: nothing is pruned. The baseline of every comparison.

    Example:
        >>> Dense().as_dict()
        {'name': 'dense'}
    """

    name: ClassVar[str] = "dense"
    uses_groups: ClassVar[bool] = False

    @property
    def renews_norms(self) -> bool:
        """No: the norms have followed the weights."""
        return False

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run; groups and epochs do not matter."""
        return _DensePruner()
