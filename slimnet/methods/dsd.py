"""DSD: Dense–Sparse–Dense training (Han et al., ICLR 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from slimnet.criteria import magnitude_mask
from slimnet.errors import ArgumentError
from slimnet.fields import documented, flag, setting, texts
from slimnet.graph.groups import ChannelGroup
from slimnet.methods.base import Pruner
from slimnet.methods.phases import PhasedMethod, PhasedPruner

_MOMENTA = ("momentum_buffer", "exp_avg")
"""Optimiser state that moves a weight on even without a gradient."""


@documented
@dataclass(frozen=True)
class DSD(PhasedMethod):
    """Train, mask the smallest weights and train on, give them back and train on: a regulariser.

    At the start of a sparse phase the ⌊N · sparsity⌋ smallest weights of every layer are chosen, once; they and
    their momentum are zeroed after every optimiser step. The next dense phase drops the mask, and these weights
    start again from zero. Biases and norms are left alone.

    Raises:
        ArgumentError: if a hyper-parameter is out of its range.

    Example:
        >>> DSD(phases="D-S-D-S-D", lengths=(4, 1, 1, 1, 1)).phases
        'dsdsd'

    References:
        Han et al., *DSD: Dense-Sparse-Dense Training for Deep Neural Networks*, ICLR 2017, arXiv 1607.04381.
    """

    name: ClassVar[str] = "dsd"
    uses_groups: ClassVar[bool] = False

    layers: tuple[str, ...] = setting(
        ("*",), texts("patterns of names", "LAYER"), "Patterns (fnmatch) of the names of the layers that are masked."
    )
    dense_first: bool = setting(True, flag(), "Leave the first convolution or linear layer of the network dense [M].")

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run; the channel groups do not matter (see :meth:`Method.start`)."""
        return DSDPruner(self, model, epochs=epochs)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The weights that sparse phases mask, by name; frozen ones are not among them.

        Raises:
            ArgumentError: if there is none.
        """
        kinds = (nn.modules.conv._ConvNd, nn.Linear)
        found = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
        chosen = [(name, module) for name, module in found[self.dense_first :] if self._is_chosen(name)]
        weights = {f"{name}.weight": module.weight for name, module in chosen if module.weight.requires_grad}
        if not weights:
            names = ", ".join(name for name, _ in found) or "none"
            raise ArgumentError(f"`layers` {list(self.layers)} leaves nothing to mask; trainable layers are among: {names}.")
        return weights

    def _is_chosen(self, name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in self.layers)


class DSDPruner(PhasedPruner):
    """DSD's state: which weights the sparse phase at hand masks.

    Attributes:
        dropped: name of a weight → bool, true where it is masked; empty in dense phases.
    """

    def __init__(self, method: DSD, model: nn.Module, *, epochs: int) -> None:
        super().__init__(method, epochs=epochs)
        self.method, self.weights = method, method.weights(model)
        self.dropped: dict[str, Tensor] = {}

    def close(self) -> None:
        """Choose the smallest weights of every layer, and zero them, in place."""
        for name, weight in self.weights.items():
            self.dropped[name] = self._like(weight, ~magnitude_mask(weight, self.method.sparsity))
        self._zero()

    def release(self) -> None:
        """Drop the mask: the weights go on from zero."""
        self.dropped = {}

    def after_backward(self) -> None:
        """Nothing: gradients may be dense, since weights and momentum are masked after the step."""

    @torch.no_grad()
    def after_step(self, optimizer: Optimizer) -> None:
        """Zero masked weights and their momentum, in place."""
        self._zero()
        for name, dropped in self.dropped.items():
            state = optimizer.state.get(self.weights[name], {})
            for key in _MOMENTA:
                if isinstance(state.get(key), Tensor):
                    state[key].masked_fill_(dropped, 0)

    def log(self) -> dict[str, float]:
        """Number of the phase, and the share of the layers' weights that is masked."""
        total = sum(weight.numel() for weight in self.weights.values())
        return {"phase": float(self.phase), "sparsity": sum(int(d.sum()) for d in self.dropped.values()) / total}

    def state_dict(self) -> dict[str, Any]:
        """The phase and its mask."""
        return {"tensors": {f"dropped.{n}": d.clone() for n, d in self.dropped.items()}, "values": {"phase": self.phase}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state; masked weights are expected to be zero already."""
        self.phase = int(state["values"]["phase"])
        saved = {name.removeprefix("dropped."): tensor for name, tensor in state["tensors"].items()}
        self.dropped = {name: self._like(self.weights[name], tensor) for name, tensor in saved.items()}

    @torch.no_grad()
    def _zero(self) -> None:
        for name, dropped in self.dropped.items():
            self.weights[name].masked_fill_(dropped, 0)

    @staticmethod
    def _like(weight: Tensor, mask: Tensor) -> Tensor:
        """A mask in the memory layout and on the device of its weight."""
        return torch.empty_like(weight, dtype=torch.bool).copy_(mask)
