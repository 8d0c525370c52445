"""What the soft filter methods share: a rate, a scale and a selection, an epoch at a time.

A method of the family is one frozen dataclass on top of :class:`SoftMethod`: it gives the two schedules and
the criterion, and where "the lowest scores" is not all there is to its selection, a pruner of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from slimnet.criteria import exact_count, group_scores, lowest
from slimnet.criteria.statistics import ClassStatistics
from slimnet.errors import ArgumentError
from slimnet.graph.groups import ChannelGroup, Couple, prunable
from slimnet.masks import SoftMask
from slimnet.methods.base import Method, Pruner, Statistics
from slimnet.schedules import Schedule

FINETUNE_SHARE = 0.2
"""Part of the epochs that fine-tunes the frozen selection, where a method is not told otherwise."""

TINY = torch.finfo(torch.float32).tiny
RELEASE_ABOVE = 0.25
"""A selected filter may be released while ζ is at least this; then the selection only grows."""


@dataclass(frozen=True, kw_only=True)
class SoftMethod(Method):
    """Hyper-parameters that every soft filter method has.

    Attributes:
        couple: ``"stream"``: a residual stream closes as a whole; ``"none"``: every layer for itself.
        mask_norm: norms close with their filters. Without it a closed filter still emits a constant.
        reversible: a filter's factors accumulate to ζ(e), scores are taken with them divided out, and while ζ is at least
            :data:`RELEASE_ABOVE` a filter that is no longer selected gets its strength back; from then on the selection only
            grows. Without it a selected filter is multiplied by ζ(e) every epoch again, and its factors are never undone.
        mask_gradients: gradients of selected filters are multiplied by ζ.
        mask_momentum: the optimiser's momentum is scaled with the filter, or with an adaptive optimiser its
            whole update.
        finetune_epochs: epochs at the end with the selection frozen and closed; None: a fifth of all.
        convolutions_only: leave linear layers alone.
    """

    couple: Couple = "stream"
    mask_norm: bool = True
    reversible: bool = True
    mask_gradients: bool = True
    mask_momentum: bool = True
    finetune_epochs: int | None = None
    convolutions_only: bool = False

    def __post_init__(self) -> None:
        """Check the shared hyper-parameters."""
        if self.couple not in ("stream", "none"):
            raise ArgumentError(f"`couple` must be 'stream' or 'none', got {self.couple!r}.")
        if self.finetune_epochs is not None and self.finetune_epochs < 0:
            raise ArgumentError(f"`finetune_epochs` must be at least 0, got {self.finetune_epochs}.")

    @property
    @abstractmethod
    def final_rate(self) -> float:
        """The share of filters closed at the end."""

    @property
    def criterion(self) -> str:
        """Name of the criterion whose lowest scores are selected."""
        return "l2"

    @abstractmethod
    def rate(self, last_epoch: int) -> Schedule:
        """θ(e): the share selected after epoch e; ``final_rate`` from ``last_epoch`` on."""

    @abstractmethod
    def scale(self, last_epoch: int) -> Schedule:
        """ζ(e): the scale of what is selected after epoch e; 0 from ``last_epoch`` on."""

    def last_epoch(self, epochs: int) -> int:
        """The epoch after which the selection is final: T − 1 less the epochs of fine-tuning.

        Raises:
            ArgumentError: if ``epochs`` leaves none for pruning.
        """
        if epochs < 1:
            raise ArgumentError(f"`epochs` must be at least 1, got {epochs}.")
        if self.finetune_epochs is None:
            return epochs - 1 - min(max(1, round(FINETUNE_SHARE * epochs)), epochs - 1)
        if self.finetune_epochs >= epochs:
            raise ArgumentError(f"`finetune_epochs` must be less than {epochs} epochs, got {self.finetune_epochs}.")
        return epochs - 1 - self.finetune_epochs

    def check(self, *, epochs: int) -> None:
        """Refuse a run that the fine-tuning fills (see :meth:`Method.check`)."""
        self.last_epoch(epochs)

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run (see :meth:`Method.start`)."""
        return SoftPruner(self, model, groups, epochs=epochs)


class SoftPruner(Pruner):
    """Select after every epoch, scale what is selected; at the end freeze it, exactly zero.

    Attributes:
        mask: ζ of every channel.
        groups: the groups that are pruned, by name.
        selected: group name → indices selected after the last epoch, in the order of selection.
    """

    def __init__(self, method: SoftMethod, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> None:
        self.model = model
        self.method = method
        chosen = [group for group in prunable(groups) if not method.convolutions_only or _is_convolutional(model, group)]
        self._check(groups, chosen)
        self.groups = {group.name: group for group in chosen}
        self.mask = SoftMask(model, chosen, mask_norm=method.mask_norm)
        self.last_epoch = method.last_epoch(epochs)
        self.rate = method.rate(self.last_epoch)
        self.scale = method.scale(self.last_epoch)
        self.selected: dict[str, Tensor] = {}
        self._epoch = -1
        self._optimizer: Optimizer | None = None
        self._is_adaptive = False

    @property
    def is_frozen(self) -> bool:
        """Whether the selection is final."""
        return self._epoch >= self.last_epoch

    def before_epoch(self, epoch: int) -> None:
        """Nothing: the selection freezes by itself after ``last_epoch``."""

    def after_backward(self) -> None:
        """Scale the gradients, or keep the weights to scale the update by, in place."""
        if not (self.method.mask_gradients or self.is_frozen):
            return
        if self._is_adaptive and self.method.mask_momentum:
            self.mask.hold()
        else:
            self.mask.mask_gradients()

    def after_step(self, optimizer: Optimizer) -> None:
        """Scale the update, keep closed filters at zero once the selection is frozen, in place."""
        self._optimizer = optimizer
        self._is_adaptive = not isinstance(optimizer, SGD)
        self.mask.mask_update()
        if self.is_frozen:
            self.mask.enforce()

    def after_epoch(self, epoch: int, statistics: Statistics) -> None:
        """Select and scale, in place; nothing once the selection is frozen."""
        self._epoch = epoch
        if epoch > self.last_epoch:
            return
        self.selected = self.select(epoch, statistics)
        zeta = self.scale(epoch)
        for name, indices in self.selected.items():
            self._set(name, indices, zeta)
        self.mask.apply()
        if self.method.mask_momentum and self._optimizer is not None and not self._is_adaptive:
            self.mask.mask_momentum(self._optimizer)

    def select(self, epoch: int, statistics: Statistics) -> dict[str, Tensor]:
        """Group name → indices of the channels to scale after this epoch: the lowest scores."""
        rate = self.rate(epoch)
        selected = {}
        for name, group in self.groups.items():
            before = self.settled(epoch, name)
            more = max(0, exact_count(group.size, rate) - len(before))
            among = others(group.size, before)
            scores = self.scores(group, self.method.criterion, among=among)
            selected[name] = torch.cat([before, lowest(scores, more)])
        return selected

    def scores(
        self,
        group: ChannelGroup,
        criterion: str,
        *,
        statistics: ClassStatistics | None = None,
        among: Tensor | None = None,
    ) -> Tensor:
        """(size,) scores of a group; a reversible method divides out the scale that its channels carry."""
        scale = self.mask.scale[group.name] if self.method.reversible else None
        unscaled = group.normed if self.method.mask_norm else ()
        return group_scores(self.model, group, criterion, statistics=statistics, scale=scale, unscaled=unscaled, among=among)

    def settled(self, epoch: int, name: str) -> Tensor:
        """Indices of a group that were selected before and may no longer be released."""
        if self.method.reversible and name in self.selected and self.scale(epoch) < RELEASE_ABOVE:
            return self.selected[name]
        return torch.empty(0, dtype=torch.int64)

    def is_closed(self) -> bool:
        """Whether the final rate is reached and all that is selected is exactly zero."""
        epoch = min(self._epoch, self.last_epoch)
        done = self._epoch >= 0 and self.rate(epoch) >= self.method.final_rate and self.scale(epoch) == 0
        return done and all(bool(((scale == 0) | (scale == 1)).all()) for scale in self.mask.scale.values())

    def log(self) -> dict[str, float]:
        """Rate θ, scale ζ, and the shares of channels selected and closed."""
        epoch = min(max(self._epoch, 0), self.last_epoch)
        total = sum(group.size for group in self.groups.values())
        return {
            "rate": self.rate(epoch),
            "zeta": self.scale(epoch),
            "selected_share": sum(len(indices) for indices in self.selected.values()) / total,
            "closed_share": self.mask.closed_share(),
        }

    def state_dict(self) -> dict[str, Any]:
        """ζ, the selection and the position in the schedule."""
        tensors = {f"scale.{name}": scale for name, scale in self.mask.state_dict().items()}
        tensors |= {f"selected.{name}": indices.clone() for name, indices in self.selected.items()}
        return {"tensors": tensors, "values": {"epoch": self._epoch, "adaptive": self._is_adaptive}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state; the weights are expected to carry its scales already."""
        self.mask.load_state_dict(with_prefix(state["tensors"], "scale."))
        self.selected = with_prefix(state["tensors"], "selected.")
        self._epoch = int(state["values"]["epoch"])
        self._is_adaptive = bool(state["values"]["adaptive"])

    def _set(self, name: str, indices: Tensor, zeta: float) -> None:
        """What becomes of a group whose channels ``indices`` are selected at ζ."""
        target = torch.ones(self.groups[name].size)
        target[indices] = zeta
        if not self.method.reversible:
            self.mask.set(name, target)
            return
        before = self.mask.scale[name]
        self.mask.set(name, target, torch.where(before > 0, target / before.clamp_min(TINY), target))

    def _check(self, groups: Sequence[ChannelGroup], chosen: Sequence[ChannelGroup]) -> None:
        rate = self.method.final_rate
        if not chosen:
            reasons = sorted({group.pinned for group in groups if group.pinned})
            raise ArgumentError(f"no channel group of this network may be pruned ({'; '.join(reasons) or 'none found'}).")
        if not any(exact_count(group.size, rate) for group in chosen):
            widest = max(group.size for group in chosen)
            raise ArgumentError(f"a rate of {rate} closes no filter: the widest group has {widest} channels.")


def others(size: int, indices: Tensor) -> Tensor:
    """(size,) bool: all channels but those at ``indices``."""
    others = torch.ones(size, dtype=torch.bool)
    others[indices] = False
    return others


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor.cpu() for name, tensor in tensors.items() if name.startswith(prefix)}


def _is_convolutional(model: nn.Module, group: ChannelGroup) -> bool:
    return all(model.get_parameter(rows.name).dim() > 2 for rows in group.weights)
