"""What became of each step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StepResult:
    """One step that was tried.

    Attributes:
        name: of the step.
        places: in how many places it changed the graph.
        kept: whether the file has it.
        reason: why, or why not.
        nodes, bytes: of the file, before and after the step.
        speedup: time before ÷ time after, median of paired rounds; None where it was not timed.
        interval: bootstrap 95 % interval of ``speedup``.
        control: the same interval for the graph before the step against itself.
        flags: why not to trust the timing, code → sentence.
    """

    name: str
    places: int
    kept: bool
    reason: str
    nodes: tuple[int, int]
    bytes: tuple[int, int]
    speedup: float | None = None
    interval: tuple[float, float] | None = None
    control: tuple[float, float] | None = None
    flags: dict[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class StepReport:
    """All steps that had something to do.

    Attributes:
        mode: ``none``, ``safe`` or ``measured``.
        results: in the order in which they were tried.
    """

    mode: str
    results: tuple[StepResult, ...] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of the steps that the file has."""
        return tuple(result.name for result in self.results if result.kept)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"mode": self.mode, "steps": [result.as_dict() for result in self.results]}
