"""FSDP: Fractional Step Discriminant Pruning (Gkalelis & Mezaris, ICMEW 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slimnet.criteria import exact_count, lowest, statistics_modules
from slimnet.errors import ArgumentError
from slimnet.fields import again, documented, flag, one_of, setting, whole, within
from slimnet.graph.groups import ChannelGroup
from slimnet.methods.base import Pruner, Statistics
from slimnet.methods.channels import others, with_prefix
from slimnet.methods.soft import PUBLISHED, SoftMethod, SoftPruner, rising
from slimnet.schedules import Schedule, fading
from slimnet.settings import MethodSettings

FIRST = ("cs", "l2", "l1", "norm-scale")


@documented
@dataclass(frozen=True)
class FSDP(SoftMethod):
    r"""Close the filters that separate classes least, then those that the others replace best, step by step.

    .. math::
        \theta(e) \nearrow \theta = \theta_{CS} + \theta_{GM}, \quad
        \theta_{CS}(e) = \min(\theta_{CS}, \theta(e)), \quad
        \theta_{GM}(e) = \theta(e) - \theta_{CS}(e), \quad
        \zeta(e) = a\,(1 - \theta(e)/\theta)

    After epoch e the ⌊Fθ_CS(e)⌋ filters of least class separability are selected, then, among the others,
    those of least summed distance to the rest; all of them are scaled to ζ(e), and their gradients by ζ(e)
    during the next epoch.

    Raises:
        ArgumentError: if a hyper-parameter is out of its range.

    Example:
        >>> FSDP(rate_cs=0.1, rate_gm=0.4).counts(16, epoch=199, last_epoch=199)
        (1, 7)

    References:
        Gkalelis & Mezaris, *Fractional Step Discriminant Pruning: A Filter Pruning Framework for Deep
        Convolutional Neural Networks*, ICMEW 2020.
    """

    name: ClassVar[str] = "fsdp"
    rates: ClassVar[tuple[str, ...]] = ("rate_cs", "rate_gm")
    published: ClassVar[Mapping[str, Any]] = {
        **PUBLISHED,
        "exact_counts": False,
        "statistics_share": 1.0,
        "cs_from_start": True,
        "first": "cs",
    }

    rate_cs: float = again(MethodSettings, "rate_cs", 0.1)
    rate_gm: float = again(MethodSettings, "rate_gm", 0.4)
    tau: float = again(MethodSettings, "tau", 10.0)
    attenuation: float = again(
        MethodSettings, "attenuation", 1.0, words="The factor a of the filter scale ζ: 1 for CIFAR-10, 0.2 for ImageNet32."
    )
    first: str = setting(
        "cs",
        one_of(*FIRST),
        "The criterion of the first share, θ_CS: cs, class separability, as published; or one of weights or norms alone.",
    )
    cs_every: int = setting(2, whole(1), "Class statistics are taken every so many epochs; the scores are reused in between.")
    cs_from_start: bool = setting(
        False,
        flag(),
        "Take them from epoch 0 on, when nothing is selected yet, as published; without it as soon as one is needed.",
    )
    statistics_share: float = setting(0.1, within("(0, 1]"), "The part of the training set that class statistics are taken over.")
    exact_counts: bool = setting(
        True,
        flag(),
        "⌊Fθ⌋ filters in all at the end, Fθ(e) rounded on the way there; without it ⌊Fθ_CS(e)⌋ + ⌊Fθ_GM(e)⌋, which may be one "
        "less, and closes the last filter from full strength.",
    )

    def __post_init__(self) -> None:
        """Check the hyper-parameters, after the published ones are set where ``faithful`` asks for them."""
        super().__post_init__()
        if not 0 < self.final_rate < 1:
            raise ArgumentError(f"`rate_cs` + `rate_gm` must be in (0, 1), got {self.final_rate}.")

    @property
    def final_rate(self) -> float:
        """θ = θ_CS + θ_GM."""
        return self.rate_cs + self.rate_gm

    def closing(self, size: int, closed: int) -> FSDP:
        """This method with its rates in proportion, so that it closes just so many of ``size`` channels."""
        return replace(super().closing(size, closed), exact_counts=True)

    def rate_schedule(self, last_epoch: int) -> Schedule:
        """θ(e): asymptotic; a run with one pruning epoch has the final rate at once."""
        return rising(self.final_rate, last_epoch, self.tau)

    def scale_schedule(self, last_epoch: int) -> Schedule:
        """ζ(e) = a (1 − θ(e)/θ)."""
        return fading(self.rate_schedule(last_epoch), self.final_rate, self.attenuation)

    def counts(self, size: int, *, epoch: float, last_epoch: int) -> tuple[int, int]:
        """How many of ``size`` filters CS and GM select after an epoch; never all of them."""
        rate = self.rate_schedule(last_epoch)(epoch)
        rate_cs = min(self.rate_cs, rate)
        if self.exact_counts:
            rounded = exact_count(size, rate + 0.5 / size)
            total = min(rounded, exact_count(size, self.final_rate))
            by_cs = min(exact_count(size, rate_cs), total)
            return by_cs, total - by_cs
        by_cs = min(math.floor(size * rate_cs), size - 1)
        return by_cs, min(math.floor(size * (rate - rate_cs)), size - 1 - by_cs)

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run (see :meth:`Method.start`)."""
        return FSDPPruner(self, model, groups, epochs=epochs)


class FSDPPruner(SoftPruner):
    """FSDP's selection: class separability (or ``first``) first, the geometric median among the rest."""

    def __init__(self, method: FSDP, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> None:
        super().__init__(method, model, groups, epochs=epochs)
        self.fsdp = method
        self.cs_scores: dict[str, Tensor] = {}

    def select(self, epoch: int, statistics: Statistics) -> dict[str, Tensor]:
        """Group name → selected indices, those by class separability first."""
        counts = {name: self._counts(name, epoch) for name in self.groups}
        early = self.fsdp.cs_from_start and self.fsdp.rate_cs > 0
        if self.fsdp.first == "cs":
            self._update_cs([name for name, (by_cs, _) in counts.items() if by_cs or early], epoch, statistics)
        return {name: self._select(name, epoch, *counts[name]) for name in self.groups}

    def state_dict(self) -> dict[str, Any]:
        """The shared state, and the class-separability scores to be reused."""
        state = super().state_dict()
        state["tensors"] |= {f"cs.{name}": scores.clone() for name, scores in self.cs_scores.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state (see :meth:`SoftPruner.load_state_dict`)."""
        super().load_state_dict(state)
        self.cs_scores = with_prefix(state["tensors"], "cs.")

    def _counts(self, name: str, epoch: int) -> tuple[int, int]:
        """How many channels of a group CS and GM select after an epoch."""
        method = self.methods[name]
        assert isinstance(method, FSDP)
        return method.counts(self.groups[name].size, epoch=epoch, last_epoch=self.last_epoch)

    def _update_cs(self, names: Sequence[str], epoch: int, statistics: Statistics) -> None:
        """Score the named groups anew every ``cs_every`` epochs; else only if some have no score yet."""
        is_due = epoch % self.fsdp.cs_every == 0
        if not names or not (is_due or any(name not in self.cs_scores for name in names)):
            return
        groups = [self.groups[name] for name in names]
        found = statistics(list(dict.fromkeys(module for group in groups for module in statistics_modules(group))))
        self.cs_scores |= {group.name: self.scores(group, "cs", statistics=found) for group in groups}

    def _select(self, name: str, epoch: int, by_cs: int, by_gm: int) -> Tensor:
        before = self.settled(epoch, name)
        had = 0
        if len(before):
            had, _ = self._counts(name, epoch - 1)
        total = by_cs + by_gm
        by_cs = min(max(0, by_cs - had), total - len(before))
        first = before
        if by_cs > 0:
            by_class = self.fsdp.first == "cs"
            scores = self.cs_scores[name].clone() if by_class else self.scores(self.groups[name], self.fsdp.first)
            scores[before] = torch.inf
            first = torch.cat([before, lowest(scores, by_cs)])
        more = total - len(first)
        if more <= 0:
            return first
        rest = others(self.groups[name].size, first)
        return torch.cat([first, lowest(self.scores(self.groups[name], "gm", among=rest), more)])
