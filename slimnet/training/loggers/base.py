"""What a logger is, and what it is given when it begins."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimnet._json import encode


@dataclass(frozen=True)
class Begin:
    """What a logger is given when it begins.

    Attributes:
        folder: its own one, in that of the run; it is there.
        name: of the run.
        run_id: 16 hexadecimal digits, the same each time that the run goes on.
        settings: all of ``config.json``: dotted name → text or number.
        history: the numbers of each epoch that was trained before; empty in a fresh run.
    """

    folder: Path
    name: str
    run_id: str
    settings: Mapping[str, str | float]
    history: tuple[Mapping[str, float], ...] = ()


class Logger(ABC):
    """Writes a run's numbers for a program that shows them. It may raise anything: the run then goes on without it."""

    @abstractmethod
    def __init__(self, begin: Begin) -> None: ...

    @abstractmethod
    def epoch(self, number: int, numbers: Mapping[str, float]) -> None:
        """An epoch is over.

        Args:
            number: from 0.
            numbers: those of ``metrics.jsonl``.
        """

    @abstractmethod
    def result(self, numbers: Mapping[str, float]) -> None:
        """The run is over: accuracy and loss of its best epoch on the validation and the test split, and so on."""

    @abstractmethod
    def close(self, *, finished: bool) -> None:
        """Let go of files and processes.

        Args:
            finished: whether the run came to its end; else it was stopped, and may be resumed.
        """


def flat(record: Mapping[str, Any]) -> dict[str, str | float]:
    """What ``config.json`` holds, with dotted names: ``lr``, ``method.rate_cs``, ``data.train``, ``environment.torch``.

    Lists are JSON, settings lose the ``train.`` before their name, and what is None is left out.
    """
    found: dict[str, str | float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= {name if key == "train" else f"{key}.{name}": item for name, item in flat(value).items()}
        elif value is not None:
            found[key] = value if isinstance(value, str | int | float) else encode(value)
    return found


def numbers_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of ``metrics.jsonl``, but that of the epoch; true and false are 1 and 0."""
    known = {key: float(value) for key, value in line.items() if isinstance(value, int | float) and key not in ("epoch", "final")}
    return {key: value for key, value in known.items() if math.isfinite(value)}
