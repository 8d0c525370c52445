"""Stages: methods one after another in one run, such as DSD and then FSDP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from slimnet.errors import ArgumentError
from slimnet.fields import REQUIRED, Rule, documented, is_number, setting, shown
from slimnet.graph.groups import ChannelGroup
from slimnet.masks import SoftMask
from slimnet.methods.base import Method, Pruner, Statistics
from slimnet.methods.phases import check_shares, part_at, split_epochs
from slimnet.names import Couple

Stage = tuple[Method, float]
STAGES = Rule("a list of pairs", lambda value: isinstance(value, list | tuple))


@documented
@dataclass(frozen=True, init=False)
class Stages(Method):
    """Methods one after another, each for its share of the epochs.

    Weights, optimiser and learning-rate schedule run on; every stage sees epochs of its own, from 0. The result is
    the last stage's.

    Raises:
        ArgumentError: if there is no stage, a share is not positive, a stage is itself ``Stages``, or the stages
            that prune want different channel groups.

    Example:
        >>> Stages(("dsd", 1), ({"name": "fpgm", "rate": 0.3}, 1)).stages[1][0]  # doctest: +ELLIPSIS
        FPGM(...rate=0.3...)
    """

    name: ClassVar[str] = "stages"

    stages: tuple[Stage, ...] = setting(REQUIRED, STAGES, "Methods and their shares of the epochs, in any unit.")

    def __init__(self, *stages: tuple[Method | str | Mapping[str, Any], float]) -> None:
        """Chain ``(method, share)`` pairs; a method may be given by its name or as :meth:`Method.as_dict` gave it."""
        pairs = tuple(_stage(pair) for pair in stages)
        if not pairs:
            raise ArgumentError("`stages` must hold a (method, share) pair at least.")
        check_shares("stages", [share for _, share in pairs])
        object.__setattr__(self, "stages", pairs)
        object.__setattr__(self, "couple", _couple([method for method, _ in pairs]))
        asking = [method.statistics_share for method, _ in pairs if "statistics_share" in method.hyper_parameters()]
        object.__setattr__(self, "statistics_share", max(asking, default=1.0))

    @property
    def closes_branches(self) -> bool:
        """Whether a stage does."""
        return any(method.closes_branches for method, _ in self.stages)

    @property
    def parts(self) -> tuple[Method, ...]:
        """The stages' methods."""
        return tuple(method for method, _ in self.stages)

    def check(self, *, epochs: int) -> None:
        """Refuse a run that is too short for one of the stages (see :meth:`Method.check`)."""
        for (method, _), length in zip(self.stages, self.lengths(epochs), strict=True):
            method.check(epochs=length)

    def starts(self, epochs: int) -> tuple[int, ...]:
        """The first epoch of every stage."""
        return split_epochs(epochs, [share for _, share in self.stages])

    def lengths(self, epochs: int) -> tuple[int, ...]:
        """How many epochs every stage has."""
        starts = self.starts(epochs)
        return tuple(end - start for start, end in zip(starts, (*starts[1:], epochs), strict=True))

    def lr_limit(self, epoch: float, epochs: int) -> float:
        """What the stage at hand allows (see :meth:`Method.lr_limit`)."""
        starts = self.starts(epochs)
        now = part_at(epoch, starts)
        return self.stages[now][0].lr_limit(epoch - starts[now], self.lengths(epochs)[now])

    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run (see :meth:`Method.start`)."""
        return StagesPruner(self, model, groups, epochs=epochs)

    def as_dict(self) -> dict[str, Any]:
        """The name, and of every stage what its method's :meth:`as_dict` gives and its share."""
        return {"name": self.name, "stages": [[method.as_dict(), share] for method, share in self.stages]}

    @classmethod
    def hyper_parameters(cls) -> tuple[str, ...]:
        """``"stages"``."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Method:
        """The stages that :meth:`as_dict` described."""
        stages = values.get("stages", ())
        STAGES.check("`stages`", stages)
        return cls(*stages)


class StagesPruner(Pruner):
    """Hands every hook to the stage at hand.

    Attributes:
        pruners: the state of every stage; all are made at once, so that what cannot work shows before training.
        stage: number of the stage at hand.
    """

    def __init__(self, method: Stages, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> None:
        lengths = zip(method.stages, method.lengths(epochs), strict=True)
        self.pruners = [stage.start(model, groups, epochs=length) for (stage, _), length in lengths]
        self.starts = method.starts(epochs)
        self.stage = 0
        self._is_released = False

    @property
    def current(self) -> Pruner:
        """The state of the stage at hand."""
        return self.pruners[self.stage]

    @property
    def mask(self) -> SoftMask | None:
        """The mask of the stage at hand, if it has one."""
        return self.current.mask

    def begin(self, statistics: Statistics) -> None:
        """The first stage's own (see :meth:`Pruner.begin`)."""
        self.statistics = statistics
        self.current.begin(statistics)

    def before_epoch(self, epoch: int) -> None:
        """Enter the stage of an epoch; where it begins, close what is closed from its start."""
        self.stage = part_at(epoch, self.starts)
        if self.stage and epoch == self.starts[self.stage] and not self._is_released:
            assert self.statistics is not None, "set by whoever drives it"
            self.current.begin(self.statistics)
        self.current.before_epoch(epoch - self.starts[self.stage])

    def after_backward(self) -> None:
        """The stage's own (see :meth:`Pruner.after_backward`)."""
        self.current.step = self.step
        self.current.after_backward()

    @property
    def masks_gradients(self) -> bool:
        """Whether the stage's pruner does."""
        return self.current.masks_gradients

    def after_step(self, optimizer: Optimizer) -> None:
        """The stage's own (see :meth:`Pruner.after_step`)."""
        self.current.after_step(optimizer)

    def after_epoch(self, epoch: int, statistics: Statistics) -> None:
        """The stage's own, with its own count of epochs (see :meth:`Pruner.after_epoch`)."""
        self.current.after_epoch(epoch - self.starts[self.stage], statistics)

    def is_closed(self) -> bool:
        """Whether the last stage has begun and is complete."""
        return self.stage == len(self.pruners) - 1 and self.current.is_closed()

    def is_settled(self) -> bool:
        """Whether the last stage has begun and is settled."""
        return self.stage == len(self.pruners) - 1 and self.current.is_settled()

    def release(self) -> None:
        """Every stage's own (see :meth:`Pruner.release`): a run that is taken up again is released before it knows its stage."""
        self._is_released = True
        for pruner in self.pruners:
            pruner.release()

    def log(self) -> dict[str, float]:
        """Number of the stage, and what it says itself."""
        return {"stage": float(self.stage), **self.current.log()}

    def state_dict(self) -> dict[str, Any]:
        """The number of the stage, and its own state."""
        state = self.current.state_dict()
        return {"tensors": state["tensors"], "values": {"stage": self.stage, "state": state["values"]}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state, and the stage that it is of."""
        self.stage = int(state["values"]["stage"])
        self.current.load_state_dict({"tensors": state["tensors"], "values": state["values"]["state"]})


def _stage(pair: Any) -> Stage:
    """A checked (method, share) pair."""
    if not (isinstance(pair, list | tuple) and len(pair) == 2 and is_number(pair[1])):
        raise ArgumentError(f"`stages` must be (method, share) pairs, got {shown(pair)}.")
    given, share = pair
    if isinstance(given, Mapping) and given.get("name") == Stages.name:
        raise ArgumentError("a stage must be a method such as FSDP() and not stages again.")
    values = {"name": given} if isinstance(given, str) else given
    method = Method.from_dict(values) if isinstance(values, Mapping) else values
    if not isinstance(method, Method) or isinstance(method, Stages):
        raise ArgumentError(f"a stage must be a method such as FSDP() and not stages again, got {given!r}.")
    return method, float(share)


def _couple(methods: Sequence[Method]) -> Couple:
    """The channel groups that all stages agree on."""
    wanted = {method.couple for method in methods if method.uses_groups}
    if len(wanted) > 1:
        raise ArgumentError(f"`couple` must be the same in all stages, got {' and '.join(sorted(wanted))}.")
    return wanted.pop() if wanted else "stream"
