"""What the soft filter methods share: hyper-parameters, two schedules, a criterion, and the state of one run.

A method of the family is one frozen dataclass on top of :class:`SoftMethod`: it gives the two schedules and
the criterion, and where "the lowest scores" is not all there is to its selection, a pruner of its own.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from slimnet.criteria import exact_count, group_scores, lowest
from slimnet.criteria.statistics import ClassStatistics
from slimnet.errors import ArgumentError
from slimnet.fields import again, documented, flag, setting, texts
from slimnet.graph.branches import branches_around
from slimnet.graph.groups import ChannelGroup, not_ignored, prunable
from slimnet.masks import SoftMask
from slimnet.methods.base import Method, Pruner, Statistics
from slimnet.methods.channels import BRANCHES, WIDTHS, named_branches, narrower, others, with_prefix
from slimnet.names import Couple
from slimnet.schedules import Schedule, asymptotic, constant
from slimnet.settings import MethodSettings

TINY = torch.finfo(torch.float32).tiny
EVERY = torch.zeros(1, dtype=torch.int64)
"""The indices of a branch's one channel."""
RELEASE_ABOVE = 0.25
"""A selected filter may be released while ζ is at least this; then the selection only grows."""
PUBLISHED: Mapping[str, Any] = {
    "couple": "none",
    "mask_norm": False,
    "reversible": False,
    "mask_momentum": False,
    "finetune_epochs": 0,
    "convolutions_only": True,
}
"""What ``faithful=True`` sets in every method of the family."""


@documented
@dataclass(frozen=True, kw_only=True)
class SoftMethod(Method):
    """Hyper-parameters that every soft filter method has."""

    finetune_share: ClassVar[float] = 0.2
    """Part of the epochs that fine-tunes the frozen selection, where ``finetune_epochs`` is None."""
    published: ClassVar[Mapping[str, Any]] = PUBLISHED
    """What ``faithful=True`` sets."""
    takes_widths: ClassVar[bool] = True
    rates: ClassVar[tuple[str, ...]] = ("rate",)
    """The hyper-parameters whose sum is ``final_rate``, or that are parts of it."""

    couple: Couple = again(MethodSettings, "couple", "stream")
    mask_norm: bool = setting(True, flag(), "Norms close with their filters. Without it a closed filter still emits a constant.")
    reversible: bool = setting(
        True,
        flag(),
        "A filter's factors accumulate to ζ(e), scores are taken with them divided out, and while ζ is at least ¼ a filter that "
        "is no longer selected gets its strength back; from then on the selection only grows. Without it a selected filter is "
        "multiplied by ζ(e) every epoch again, and its factors are never undone.",
    )
    mask_gradients: bool = setting(True, flag(), "Gradients of selected filters are multiplied by ζ.")
    mask_momentum: bool = setting(
        True,
        flag(),
        "The optimiser's momentum is scaled with the filter, or with an adaptive optimiser its whole update.",
    )
    finetune_epochs: int | None = again(MethodSettings, "finetune_epochs", None)
    convolutions_only: bool = setting(False, flag(), "Leave linear layers alone.")
    ignore: tuple[str, ...] = setting(
        (), texts("patterns of names", "GROUP"), "Patterns (fnmatch) of the names of channel groups that are left alone."
    )
    widths: tuple[tuple[str, int], ...] = setting(
        (),
        WIDTHS,
        "How many channels each group keeps, as (group, channels) pairs, instead of the same rate for all. The schedule stays, "
        "in proportion; groups that are not named are left alone. 0 closes a group whole, which is for groups inside a residual "
        "branch: surgery then shuts the branch.",
    )
    branches: tuple[str, ...] = setting(
        (),
        BRANCHES,
        "Names of residual branches to close, the cheapest loss first. They fade as filters do, one after another, by γ and β of "
        "the norm that ends them, and surgery removes them whole.",
    )
    faithful: bool = again(MethodSettings, "faithful", False)

    def __post_init__(self) -> None:
        """Set the published recipe where ``faithful`` asks for it, and check the hyper-parameters."""
        for name, value in self.published.items() if self.faithful else ():
            object.__setattr__(self, name, value)
        super().__post_init__()

    @property
    def closes_branches(self) -> bool:
        """Whether branches are named, or a width of 0, which takes the branch around the group along."""
        return bool(self.branches) or any(width == 0 for _, width in self.widths)

    @property
    def renews_norms(self) -> bool:
        """Not in the published recipe."""
        return not self.faithful

    def chosen_groups(self, model: nn.Module, groups: Sequence[ChannelGroup]) -> tuple[ChannelGroup, ...]:
        """The groups that may be pruned, without what ``ignore`` and ``convolutions_only`` leave alone.

        Raises:
            ArgumentError: if a pattern of ``ignore`` matches nothing.
        """
        found = not_ignored(prunable(groups), self.ignore)
        return tuple(group for group in found if not self.convolutions_only or _is_convolutional(model, group))

    @property
    @abstractmethod
    def final_rate(self) -> float:
        """The share of filters closed at the end."""

    @property
    def criterion(self) -> str:
        """Name of the criterion whose lowest scores are selected."""
        return "l2"

    @abstractmethod
    def rate_schedule(self, last_epoch: int) -> Schedule:
        """θ(e): the share selected after epoch e; ``final_rate`` from ``last_epoch`` on."""

    @abstractmethod
    def scale_schedule(self, last_epoch: int) -> Schedule:
        """ζ(e): the scale of what is selected after epoch e; 0 from ``last_epoch`` on."""

    def count(self, size: int, rate: float) -> int:
        """How many of ``size`` channels a rate θ(e) selects: ⌊Fθ(e)⌋, and never all of them."""
        return exact_count(size, rate)

    def closing(self, size: int, closed: int) -> Self:
        """This method with its rates in proportion, so that it closes just so many of ``size`` channels."""
        factor = closed / size / self.final_rate
        given: dict[str, Any] = {name: getattr(self, name) * factor for name in self.rates}
        return dataclasses.replace(self, widths=(), faithful=False, **given)

    def last_epoch(self, epochs: int) -> int:
        """The epoch after which the selection is final: T − 1 less the epochs of fine-tuning.

        Raises:
            ArgumentError: if ``epochs`` leaves none for pruning.
        """
        if epochs < 1:
            raise ArgumentError(f"`epochs` must be at least 1, got {epochs}.")
        if self.finetune_epochs is None:
            return epochs - 1 - min(max(1, round(self.finetune_share * epochs)), epochs - 1)
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
        groups: the groups that are pruned, by name.
        shut: names of the groups that close whole.
        branches: the residual branches that are closed, in order, by name; ``around``: group that closes whole → the branch that
            goes with it.
        methods: what each group is pruned by: the method, or with ``widths`` the method at a rate of its own, which leaves a
            channel at least: the last one of a group that closes whole goes with the one before.
        selected: group name → indices selected after the last epoch, in the order of selection.
    """

    def __init__(self, method: SoftMethod, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> None:
        self.model = model
        self.method = method
        allowed = method.chosen_groups(model, groups)
        chosen = narrower(method.widths, allowed) if method.widths else allowed
        self._total = sum(group.size for group in allowed)
        self._check(groups, chosen)
        self.groups = {group.name: group for group in chosen}
        self.shut = {name for name, width in method.widths if width == 0}
        self.methods = {group.name: of_width(method, group) for group in chosen}
        self.branches = named_branches(method.branches, groups)
        self.around = {name: branch for name, branch in branches_around(tuple(self.shut), groups).items() if method.mask_norm}
        self._mask = self.make_mask(mask_norm=method.mask_norm)
        self.last_epoch = method.last_epoch(epochs)
        self.rate = method.rate_schedule(self.last_epoch)
        self.scale = method.scale_schedule(self.last_epoch)
        self.selected: dict[str, Tensor] = {}
        self._epoch = -1
        self._optimizers: WeakSet[Optimizer] = WeakSet()
        self._is_adaptive = False
        self._is_released = False

    @property
    def mask(self) -> SoftMask:
        """ζ of every channel."""
        return self._mask

    def make_mask(self, *, mask_norm: bool) -> SoftMask:
        """A mask, all open, over the groups and the branches."""
        branches = {branch.name: branch for branch in (*self.branches.values(), *self.around.values())}
        return SoftMask(self.model, (*self.groups.values(), *branches.values()), mask_norm=mask_norm)

    @property
    def is_frozen(self) -> bool:
        """Whether the selection is final."""
        return self._epoch >= self.last_epoch

    def before_epoch(self, epoch: int) -> None:
        """Nothing: the selection freezes by itself after ``last_epoch``."""

    def after_backward(self) -> None:
        """Scale the gradients, or keep the weights to scale the update by, in place."""
        if self._is_released or not (self.method.mask_gradients or self.is_frozen):
            return
        if self.masks_gradients:
            self.mask.mask_gradients()
        else:
            self.mask.hold()

    @property
    def masks_gradients(self) -> bool:
        """Whether gradients are scaled, and not the update."""
        masks = self.method.mask_gradients or self.is_frozen
        return masks and not self._is_released and not (self._is_adaptive and self.method.mask_momentum)

    def after_step(self, optimizer: Optimizer) -> None:
        """Scale the update, keep closed filters at zero once the selection is frozen, in place."""
        self._optimizers.add(optimizer)
        self._is_adaptive = not isinstance(optimizer, SGD)
        if self._is_released:
            return
        self.mask.mask_update()
        if self.is_frozen:
            self.mask.enforce()

    def after_epoch(self, epoch: int, statistics: Statistics) -> None:
        """Select and scale, in place; nothing once the selection is frozen."""
        if epoch > self.last_epoch:
            self._epoch = epoch
            return
        chosen = self.select(epoch, statistics)
        self.selected = {name: self._to_the_last(name, indices) for name, indices in chosen.items()}
        for name, indices in self.selected.items():
            self._set(name, indices, self._zeta(epoch, name))
            if name in self.around and len(indices) == self.groups[name].size:
                self._set(self.around[name].name, EVERY, self._zeta(epoch, name))
        for name in list(self.branches)[: self._branch_count(epoch)]:
            self._set(name, EVERY, self.scale(epoch))
        self.mask.apply()
        self._epoch = epoch
        if self.method.mask_momentum and not self._is_adaptive:
            for optimizer in self._optimizers:
                self.mask.mask_momentum(optimizer)

    def _branch_count(self, epoch: int) -> int:
        """How many of the branches fade after an epoch: as many as θ(e) is of θ, rounded up."""
        share = self.rate(epoch) / self.method.final_rate if self.method.final_rate else 1.0
        return math.ceil(len(self.branches) * min(share, 1.0) - 1e-9)

    def select(self, epoch: int, statistics: Statistics) -> dict[str, Tensor]:
        """Group name → indices of the channels to scale after this epoch: the lowest scores."""
        selected = {}
        for name, group in self.groups.items():
            before, method = self.settled(epoch, name), self.methods[name]
            more = max(0, method.count(group.size, method.rate_schedule(self.last_epoch)(epoch)) - len(before))
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
        unscaled = group.normed if self.mask.mask_norm else ()
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

    def is_settled(self) -> bool:
        """Whether the selection is frozen and closed, with norms that close too: what is closed emits exactly 0."""
        done = self.is_frozen and self.mask.mask_norm and not self._is_released
        scales = list(self.mask.scale.values())
        return done and all(bool(((s == 0) | (s == 1)).all()) for s in scales) and any(bool((s == 0).any()) for s in scales)

    def release(self) -> None:
        """Leave the network alone from now on; the mask goes on saying what was closed."""
        self._is_released = True

    def log(self) -> dict[str, float]:
        """Rate θ, scale ζ, and the shares of channels selected and closed."""
        epoch = min(max(self._epoch, 0), self.last_epoch)
        gone = self.mask.closed()
        closed = sum(int(gone[name].sum()) for name in self.groups)
        final = self.method.final_rate
        return {
            "rate": (self.rate(epoch) / final if final else 1.0) * self._final_rate(),
            "zeta": self.scale(epoch),
            "selected_share": sum(len(indices) for indices in self.selected.values()) / self._total,
            "closed_share": closed / self._total,
            **({"closed_branches": sum(int(gone[name].sum()) for name in self.branches)} if self.branches else {}),
        }

    def _final_rate(self) -> float:
        """The share of channels that is closed at the end: the method's, or what its widths come to."""
        if not self.method.widths:
            return self.method.final_rate
        widths = dict(self.method.widths)
        return sum(group.size - widths[group.name] for group in self.groups.values()) / self._total

    def state_dict(self) -> dict[str, Any]:
        """ζ, the selection and the position in the schedule."""
        tensors = {f"scale.{name}": scale for name, scale in self.mask.state_dict().items()}
        tensors |= {f"selected.{name}": indices.clone() for name, indices in self.selected.items()}
        return {"tensors": tensors, "values": {"epoch": self._epoch, "adaptive": self._is_adaptive}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state; the weights are expected to carry its scales already."""
        self._epoch = int(state["values"]["epoch"])
        self.mask.load_state_dict(with_prefix(state["tensors"], "scale."))
        self.selected = with_prefix(state["tensors"], "selected.")
        self._is_adaptive = bool(state["values"]["adaptive"])

    def _to_the_last(self, name: str, indices: Tensor) -> Tensor:
        """The selection of a group; with its last channel where it is to close whole and all the others are selected."""
        size = self.groups[name].size
        if name not in self.shut or len(indices) != size - 1:
            return indices
        return torch.cat([indices, others(size, indices).nonzero().flatten()])

    def _zeta(self, epoch: int, name: str) -> float:
        """ζ(e); 0 for a group that is selected whole and can no longer be released.

        The norm behind the layer that reads the group divides a common scale of all its channels out again: the branch would not
        fade, but go at once, in the last epoch that selects.
        """
        zeta = self.scale(epoch)
        is_whole = name in self.shut and len(self.selected[name]) == self.groups[name].size
        return 0.0 if is_whole and zeta < RELEASE_ABOVE else zeta

    def _set(self, name: str, indices: Tensor, zeta: float) -> None:
        """What becomes of a group whose channels ``indices`` are selected at ζ."""
        target = torch.ones(len(self.mask.scale[name]))
        target[indices] = zeta
        if not self.method.reversible:
            self.mask.set(name, target)
            return
        before = self.mask.scale[name]
        self.mask.set(name, target, torch.where(before > 0, target / before.clamp_min(TINY), target))

    def _check(self, groups: Sequence[ChannelGroup], chosen: Sequence[ChannelGroup]) -> None:
        rate = self.method.final_rate
        if self.method.branches:
            return
        if not chosen:
            reasons = sorted({group.pinned for group in groups if group.pinned})
            raise ArgumentError(f"no channel group of this network may be pruned ({'; '.join(reasons) or 'none found'}).")
        if not self.method.widths and not any(exact_count(group.size, rate) for group in chosen):
            widest = max(group.size for group in chosen)
            raise ArgumentError(f"a rate of {rate} closes no filter: the widest group has {widest} channels.")


def of_width(method: SoftMethod, group: ChannelGroup) -> SoftMethod:
    """The method at the rate that leaves a group its width, or one channel where it is to have none; else the method itself."""
    width = dict(method.widths).get(group.name)
    return method if width is None or group.size == 1 else method.closing(group.size, group.size - max(width, 1))


def _is_convolutional(model: nn.Module, group: ChannelGroup) -> bool:
    return all(model.get_parameter(rows.name).dim() > 2 for rows in group.weights)


def rising(final: float, last_epoch: int, tau: float) -> Schedule:
    """The asymptotic rise to ``final``; with a single pruning epoch, ``final`` at once."""
    return asymptotic(final, last_epoch, tau) if last_epoch else constant(final)
