"""Structured DSD: the sparse phases mask whole channels, and the last of them is what is exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from slimnet.criteria import exact_count, get_criterion, group_scores, lowest
from slimnet.errors import ArgumentError
from slimnet.fields import again, documented, setting, text, within
from slimnet.graph.groups import ChannelGroup, Rows, prunable
from slimnet.masks import SoftMask
from slimnet.methods.base import Pruner
from slimnet.methods.channels import with_prefix
from slimnet.methods.phases import PhasedMethod, PhasedPruner
from slimnet.names import Couple
from slimnet.settings import MethodSettings


@documented
@dataclass(frozen=True)
class StructuredDSD(PhasedMethod):
    """DSD on whole channels: filters of every layer that makes them, their biases and their norms.

    A sparse phase closes the ⌊F · sparsity⌋ channels of lowest score of every group, chosen once at its start, and
    holds them at exactly zero. Phases end with s, so that the result can be cut. A dense phase gives closed channels
    back at a fraction of the strength that they had: from exact zero there is no way back, since behind a ReLU a
    filter of zeros with β ≤ 0 gets no gradient.

    Raises:
        ArgumentError: if a hyper-parameter is out of its range.

    Example:
        >>> StructuredDSD(sparsity=0.4).phases
        'dsds'

    References:
        Han et al., *DSD: Dense-Sparse-Dense Training for Deep Neural Networks*, ICLR 2017, arXiv 1607.04381
        (the phases; masking channels is ours).
    """

    name: ClassVar[str] = "structured-dsd"

    phases: str = again(PhasedMethod, "phases", "dsds", words="d and s in turn, with s at the end.")
    criterion: str = setting("l2", text(), "Name of the score, one that needs weights only: l2, l1, gm or norm-scale.")
    couple: Couple = again(MethodSettings, "couple", "stream")
    restart: float = setting(0.1, within("(0, 1]"), "The strength at which closed channels come back.")

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        super().__post_init__()
        if not self.phases.endswith("s"):
            raise ArgumentError(f"`phases` must end with s, the network that is exported, got {self.phases!r}.")
        if get_criterion(self.criterion).source not in ("weights", "norms"):
            raise ArgumentError(f"`criterion` must need weights only, got {self.criterion!r}.")

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run (see :meth:`Method.start`)."""
        return StructuredDSDPruner(self, model, groups, epochs=epochs)


class StructuredDSDPruner(PhasedPruner):
    """Structured DSD's state: the mask of the phase at hand, and what its channels were before.

    Attributes:
        groups: the groups that are pruned, by name.
    """

    def __init__(self, method: StructuredDSD, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> None:
        super().__init__(method, epochs=epochs)
        self.method, self.model = method, model
        self.groups = {group.name: group for group in prunable(groups)}
        if not any(exact_count(group.size, method.sparsity) for group in self.groups.values()):
            widest = max((group.size for group in self.groups.values()), default=0)
            raise ArgumentError(f"a sparsity of {method.sparsity} closes no channel: the widest group has {widest}.")
        self._mask = SoftMask(model, self.groups.values(), mask_norm=True)
        self._before: dict[str, Tensor] = {}
        self._cleared: WeakSet[Optimizer] = WeakSet()

    @property
    def mask(self) -> SoftMask:
        """ζ of every channel, 0 or 1."""
        return self._mask

    def close(self) -> None:
        """Choose the channels of lowest score in every group, and zero them, in place."""
        if self.phase < len(self.kinds) - 1:
            self._before = {rows.name: tensor.detach().clone() for _, rows, tensor in self._members()}
        for name, group in self.groups.items():
            scale = torch.ones(group.size)
            scores = group_scores(self.model, group, self.method.criterion)
            scale[lowest(scores, exact_count(group.size, self.method.sparsity))] = 0
            self.mask.set(name, scale)
        self.mask.apply()
        self._cleared.clear()

    @torch.no_grad()
    def release(self) -> None:
        """Give closed channels back at ``restart`` of their strength, in place.

        Where a norm follows, γ and β carry the strength and the filter comes back whole: the norm would divide its
        scale out again.
        """
        for group, rows, tensor in self._members():
            index = rows.index[self.mask.closed()[group.name]].flatten().to(tensor.device)
            strength = 1.0 if rows.name in group.normed else self.method.restart
            before = self._before[rows.name].to(tensor.device).movedim(rows.dim, 0)
            tensor.movedim(rows.dim, 0)[index] = strength * before[index]
        for name, group in self.groups.items():
            self.mask.set(name, torch.ones(group.size))
        self._before = {}

    def after_backward(self) -> None:
        """Zero the gradients of closed channels, in place."""
        self.mask.mask_gradients()

    @property
    def masks_gradients(self) -> bool:
        """Always; in dense phases by 1."""
        return True

    def after_step(self, optimizer: Optimizer) -> None:
        """Hold closed channels at zero, in place; their momentum, once cleared, stays so without gradients."""
        if self.is_sparse and optimizer not in self._cleared:
            self.mask.mask_momentum(optimizer)
            self._cleared.add(optimizer)
        self.mask.enforce()

    def log(self) -> dict[str, float]:
        """Number of the phase, and the share of channels that is closed."""
        return {"phase": float(self.phase), "closed_share": self.mask.closed_share()}

    def state_dict(self) -> dict[str, Any]:
        """The phase, its mask, and what its channels were before."""
        tensors = {f"scale.{name}": scale for name, scale in self.mask.state_dict().items()}
        tensors |= {f"before.{name}": tensor.clone() for name, tensor in self._before.items()}
        return {"tensors": tensors, "values": {"phase": self.phase}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state; the weights are expected to carry its mask already."""
        self.phase = int(state["values"]["phase"])
        self._cleared.clear()
        for name, scale in with_prefix(state["tensors"], "scale.").items():
            self.mask.set(name, scale)
        self._before = with_prefix(state["tensors"], "before.")

    def _members(self) -> Iterator[tuple[ChannelGroup, Rows, nn.Parameter]]:
        """Every parameter that the mask acts on, with its place in a group."""
        known = dict(self.model.named_parameters(remove_duplicate=False))
        for group in self.groups.values():
            yield from ((group, rows, known[rows.name]) for rows in (*group.filters, *group.norms) if rows.name in known)
