"""Runs in phases: how epochs are shared out, and what dense and sparse phases have in common."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from slimnet.errors import ArgumentError
from slimnet.fields import Rule, again, documented, is_number, setting, within
from slimnet.methods.base import Method, Pruner, Statistics
from slimnet.settings import MethodSettings

_PATTERN = re.compile(r"d?(sd)*s?")


def split_epochs(epochs: int, shares: Sequence[float]) -> tuple[int, ...]:
    """The first epoch of every part of a run, at least one epoch each.

    Args:
        epochs: length of the run.
        shares: lengths of the parts, in any unit.

    Raises:
        ArgumentError: if there are fewer epochs than parts.

    Example:
        >>> split_epochs(20, (2, 1, 1))
        (0, 10, 15)
    """
    parts = len(shares)
    if epochs < parts:
        raise ArgumentError(f"`epochs` must be at least {parts}, one for each phase, got {epochs}.")
    starts = [0]
    for part in range(1, parts):
        wanted = round(epochs * sum(shares[:part]) / sum(shares))
        starts.append(min(max(wanted, starts[-1] + 1), epochs - (parts - part)))
    return tuple(starts)


def part_at(epoch: float, starts: Sequence[int]) -> int:
    """Which part an epoch belongs to, from 0."""
    return sum(epoch >= start for start in starts[1:])


def check_shares(name: str, shares: Sequence[float]) -> None:
    """Refuse lengths of parts that are not positive numbers.

    Raises:
        ArgumentError: naming the argument and its value.
    """
    if not all(math.isfinite(share) and share > 0 for share in shares):
        raise ArgumentError(f"`{name}` must be positive numbers, got {', '.join(map(str, shares))}.")


def _joined(phases: str) -> str:
    return phases.lower().replace("-", "")


PHASES = Rule(
    "d and s in turn with an s among them, such as 'dsd'",
    lambda value: isinstance(value, str) and bool(_PATTERN.fullmatch(_joined(value))) and "s" in _joined(value),
)
LENGTHS = Rule(
    "positive numbers",
    lambda value: (
        value is None or (isinstance(value, list | tuple) and all(is_number(length) and length > 0 for length in value))
    ),
)


@documented
@dataclass(frozen=True)
class PhasedMethod(Method):
    """Dense and sparse phases in turn; what is masked is chosen once, at the start of a sparse phase."""

    sparsity: float = again(MethodSettings, "sparsity", 0.3)
    phases: str = setting("dsd", PHASES, "d and s in turn, e.g. dsd or dsdsd (D-S-D is the same).")
    lengths: tuple[float, ...] | None = setting(
        None, LENGTHS, "Length of every phase, in any unit; null: equal, but a first dense phase twice as long."
    )
    lr_sparse: float = setting(
        1.0,
        within("(0, 1]"),
        "A sparse phase uses at most this share of the learning rate; 1: it goes on as the dense phase before it ended [M].",
    )
    lr_redense: float = setting(
        0.1, within("(0, 1]"), "From the second dense phase on at most this share of the learning rate is used [M]."
    )

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        super().__post_init__()
        object.__setattr__(self, "phases", _joined(self.phases))
        if len(self.shares) != len(self.phases):
            raise ArgumentError(f"`lengths` must be {len(self.phases)} numbers, one a phase, got {len(self.shares)}.")

    @property
    def shares(self) -> tuple[float, ...]:
        """Lengths of the phases, in one unit."""
        first = 2.0 if self.phases[0] == "d" else 1.0
        return (first, *[1.0] * (len(self.phases) - 1)) if self.lengths is None else self.lengths

    def check(self, *, epochs: int) -> None:
        """Refuse a run that is shorter than an epoch a phase (see :meth:`Method.check`)."""
        split_epochs(epochs, self.shares)

    def lr_limit(self, epoch: float, epochs: int) -> float:
        """1 in the first dense phase; then what the phases until now allow (see :meth:`Method.lr_limit`)."""
        now = part_at(epoch, split_epochs(epochs, self.shares))
        limits = [self.lr_sparse if kind == "s" else self.lr_redense for kind in self.phases[: now + 1]]
        return min([1.0, *(limits[1:] if self.phases[0] == "d" else limits)])


class PhasedPruner(Pruner):
    """Walks through the phases: ``close`` at the start of a sparse one, ``release`` at its end.

    Attributes:
        phase: number of the phase at hand; −1 before the first.
    """

    def __init__(self, method: PhasedMethod, *, epochs: int) -> None:
        self.kinds = method.phases
        self.starts = split_epochs(epochs, method.shares)
        self.phase = -1

    @property
    def is_sparse(self) -> bool:
        """Whether the phase at hand is a sparse one."""
        return self.phase >= 0 and self.kinds[self.phase] == "s"

    @abstractmethod
    def close(self) -> None:
        """Choose what this sparse phase masks, and mask it, in place."""

    @abstractmethod
    def release(self) -> None:
        """Drop the mask, in place."""

    def before_epoch(self, epoch: int) -> None:
        """Enter the phase of an epoch, where it is a new one."""
        phase = part_at(epoch, self.starts)
        if phase == self.phase:
            return
        if self.is_sparse:
            self.release()
        self.phase = phase
        if self.is_sparse:
            self.close()

    def after_epoch(self, epoch: int, statistics: Statistics) -> None:
        """Nothing: the mask is chosen once a phase."""

    def is_closed(self) -> bool:
        """Whether the last phase has begun: only its networks are the method's result."""
        return self.phase == len(self.kinds) - 1
