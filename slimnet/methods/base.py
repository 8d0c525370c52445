"""What a method is to the training engine: a frozen description, and the state of one run made from it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.optim import Optimizer

from slimnet.criteria import ClassStatistics
from slimnet.errors import ArgumentError, did_you_mean
from slimnet.fields import check, shown
from slimnet.graph.groups import ChannelGroup, prunable
from slimnet.masks import SoftMask
from slimnet.names import Couple

Statistics = Callable[[Sequence[str]], ClassStatistics]
"""Module names in, class statistics behind these modules out; computed when it is called and not before."""

CLOSES_NOTHING = "nothing would be closed: give a `rate`, `widths`, `branches` or a target."
"""What is said of a method whose ``closes_anything`` is false, in a run without a target."""

_METHODS: dict[str, type[Method]] = {}


@dataclass(frozen=True)
class Step:
    """What is known of an optimiser's step that is about to be made.

    Attributes:
        loss_scale: what gradients are multiplied by until then (a loss scaler's factor, where the optimiser divides it out).
        parameters: ids of the tensors that this step moves; None: all of the network's.
    """

    loss_scale: float = 1.0
    parameters: frozenset[int] | None = None

    def moves(self, tensor: Tensor) -> bool:
        """Whether this step moves a tensor."""
        return self.parameters is None or id(tensor) in self.parameters


class Pruner(ABC):
    """The state of one run. `slimnet.attached` calls the hooks in the order in which they stand here.

    Attributes:
        step: the step that ``after_backward`` is called for; by default one of all weights, of gradients as they are.
        statistics: class statistics of training images, for what is closed when an epoch begins; set by whoever drives it.

    A run: ``begin``, then its epochs. An epoch: learning rate → ``before_epoch`` → steps (backward, ``after_backward``,
    optimiser, ``after_step``) → ``after_epoch`` → the cut, where ``is_settled``, then ``release`` → validation (the epoch may be
    "best" where ``is_closed``) → checkpoint.
    """

    step: Step = Step()
    statistics: Statistics | None = None

    @property
    def mask(self) -> SoftMask | None:
        """ζ of every channel; None where no channel is masked."""
        return None

    def begin(self, statistics: Statistics) -> None:  # noqa: B027  # a hook: most methods select later
        """Before the first step of a run, not of a resumed one: close, in place, what is closed from the start."""

    @abstractmethod
    def before_epoch(self, epoch: int) -> None:
        """Change phase, before the first step of an epoch (0 = first)."""

    @abstractmethod
    def after_backward(self) -> None:
        """Every step, when gradients are there: change them in place."""

    @property
    def masks_gradients(self) -> bool:
        """Whether all that ``after_backward`` does to gradients just now is ``mask.mask_gradients()``.

        Whoever hooks the gradients may then multiply them as they come, before they are clipped (see :attr:`SoftMask.hooked`).
        """
        return False

    @abstractmethod
    def after_step(self, optimizer: Optimizer) -> None:
        """Every step, after the optimiser: put right what it did to masked weights, in place."""

    @abstractmethod
    def after_epoch(self, epoch: int, statistics: Statistics) -> None:
        """Select, then scale the weights, in place. ``statistics`` is called only where data are needed."""

    @abstractmethod
    def is_closed(self) -> bool:
        """Whether pruning is complete and every masked filter exactly zero since ``after_epoch``."""

    def is_settled(self) -> bool:
        """Whether what is closed stays closed, emits exactly 0, and is all that the method will close.

        The closed channels can then be cut out, and training goes on with the smaller network as if they were masked.
        """
        return False

    def release(self) -> None:  # noqa: B027  # only what can be settled is ever released
        """Leave the network alone from now on: what was closed has been cut out of it."""

    @abstractmethod
    def log(self) -> dict[str, float]:
        """What an epoch's line of metrics says of the pruning."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """``{"tensors": name → Tensor, "values": name → JSON value}``: all that a resumed run needs."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state that :meth:`state_dict` gave."""


class Method(ABC):
    """A way to train: its hyper-parameters, as a frozen dataclass in its own file.

    A subclass that sets ``name`` is found by that name, in the command line and in saved configurations.

    Attributes:
        name: what the method is called.
        couple: which channel groups it wants: ``"stream"`` or ``"none"``.
        statistics_share: the part of the training set that its class statistics are to be taken over, in (0,
            1].
        mask_norm: whether norms close with their filters.
        widths: (group, channels) pairs: how many channels each group keeps, where that is told group by group.
    """

    name: ClassVar[str] = ""
    uses_groups: ClassVar[bool] = True
    """Whether it masks channel groups at all: a method that does not goes with any ``couple``."""
    takes_widths: ClassVar[bool] = False
    """Whether each group may be given a width of its own."""

    @property
    def closes_branches(self) -> bool:
        """Whether it closes residual branches, and wants them among the groups."""
        return False

    couple: Couple = "stream"
    statistics_share: float = 1.0
    mask_norm: bool = True
    widths: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        """Check the settings (see `slimnet.fields`), and make tuples of lists."""
        check(self)
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            object.__setattr__(self, field.name, _frozen(getattr(self, field.name)))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            _METHODS[cls.name] = cls

    @property
    def closes_anything(self) -> bool:
        """Whether the hyper-parameters close something without a run's target."""
        return True

    @property
    def renews_norms(self) -> bool:
        """Whether the norms' statistics of the result may be estimated afresh: masks have moved the features that they are of."""
        return True

    @property
    def parts(self) -> tuple[Method, ...]:
        """The methods that a run goes through, one after another: itself alone, but for stages."""
        return (self,)

    def chosen_groups(self, model: nn.Module, groups: Sequence[ChannelGroup]) -> tuple[ChannelGroup, ...]:
        """The groups that it prunes.

        Raises:
            ArgumentError: if the method names groups that there are not.
        """
        return prunable(groups)

    def with_widths(self, widths: Sequence[tuple[str, int]]) -> Self:
        """This method with a width for each group; for one that ``takes_widths``."""
        return dataclasses.replace(self, widths=tuple(widths))  # type: ignore[type-var]  # subclasses are dataclasses

    @abstractmethod
    def start(self, model: nn.Module, groups: Sequence[ChannelGroup], *, epochs: int) -> Pruner:
        """Begin a run.

        Args:
            model: the network, on its device, with its initial weights.
            groups: its channel groups, found with this method's ``couple``.
            epochs: length of the run T, at least 1.

        Raises:
            ArgumentError: if the method can do nothing with these groups or epochs.
        """

    def check(self, *, epochs: int) -> None:  # noqa: B027  # a hook: most methods take any length
        """Refuse, before any work, a length of run that the method can do nothing with.

        Raises:
            ArgumentError: if there are too few epochs.
        """

    def lr_limit(self, epoch: float, epochs: int) -> float:
        """The most of the run's learning rate that an epoch may use, as a share of it, in (0, 1].

        The rate at a point of a run is what its schedule says there, but no more than this share of ``lr``.

        Args:
            epoch: a point of the run, in [0, epochs).
            epochs: length of the run T.
        """
        return 1.0

    def as_dict(self) -> dict[str, Any]:
        """The name and every hyper-parameter, as JSON values."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]  # subclasses are dataclasses
        return {"name": self.name, **{field.name: getattr(self, field.name) for field in fields}}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Method:
        """The method that :meth:`as_dict` described.

        Raises:
            ArgumentError: if the name or a hyper-parameter is unknown, or a value out of its range.
        """
        if not isinstance(values, Mapping):
            raise ArgumentError(f"`method` must be an object with a `name`, got {shown(values)}.")
        kind = get_method(str(values.get("name", "")))
        known = kind.hyper_parameters()
        given = {key: value for key, value in values.items() if key != "name"}
        for key in given:
            if key not in known:
                raise ArgumentError(f"method {kind.name!r} has no hyper-parameter {shown(key)}{did_you_mean(str(key), known)}")
        try:
            return kind.from_values({key: _frozen(value) for key, value in given.items()})
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
            raise ArgumentError(f"`method` is malformed: {shown(error)}.") from None

    @classmethod
    def hyper_parameters(cls) -> tuple[str, ...]:
        """The names that :meth:`from_dict` takes beside ``"name"``."""
        return tuple(field.name for field in dataclasses.fields(cls) if field.init)  # type: ignore[arg-type]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Method:
        """The method with these hyper-parameters, as :meth:`as_dict` gave them."""
        return cls(**values)


def _frozen(value: Any) -> Any:
    """Lists and tuples as tuples, those in them too; anything else as it is."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def method_names() -> tuple[str, ...]:
    """The names of the methods."""
    return tuple(sorted(_METHODS))


def get_method(name: str) -> type[Method]:
    """The method class of that name.

    Raises:
        ArgumentError: if it is unknown; the message lists the known ones.
    """
    if name not in _METHODS:
        raise ArgumentError(f"unknown method {shown(name)}; known: {', '.join(method_names())}.")
    return _METHODS[name]
