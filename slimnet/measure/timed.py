"""What is timed, and under which conditions: the same for all runtimes. None of them is imported here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slimnet.limits import current_limit

Array = NDArray[Any]
Inputs = Array | Mapping[str, Array] | None


@dataclass(frozen=True, eq=False)
class Setting:
    """How networks are run.

    Attributes:
        threads: of each session.
        batch: images a run.
        provider: ``"cpu"``, ``"cuda"``, ``"tensorrt"`` or ``"openvino"``.
        inputs: real input, or None for random input.
        seed: of random input.
        time_limit: seconds that each may take to be opened, and for a run; see `slimnet.limits`.
    """

    threads: int = 1
    batch: int = 1
    provider: str = "cpu"
    inputs: Inputs = None
    seed: int = 0
    time_limit: float = field(default_factory=current_limit)


def _nothing() -> None:
    return None


@dataclass(frozen=True, eq=False)
class Timed:
    """A network that is open, with its inputs in place.

    Attributes:
        name: of the variant.
        runtime: what runs it: ``"onnxruntime"``, ``"torch"`` or ``"torch-compile"``.
        path: its file, where it has one.
        session_ms: milliseconds to open it.
        first_ms: milliseconds of the first run.
        time: runs it once; nanoseconds.
        close: puts back what opening it has changed in the process.
        environment: what belongs into the record of the machine.
        size: bytes of its files; asked for once the timing is over.
    """

    name: str
    runtime: str
    path: Path | None
    session_ms: float
    first_ms: float
    time: Callable[[], int]
    close: Callable[[], None] = _nothing
    environment: Mapping[str, Any] = field(default_factory=dict)
    size: Callable[[], int | None] = _nothing


class Network(Protocol):
    """Something that can be opened to be timed."""

    def prepare(self) -> tuple[Network, int]:
        """Import the runtime and make what is made before opening; what to open then, and the bytes that it holds already."""

    def open(self, name: str, how: Setting) -> Timed:
        """Open it, make its inputs, run it once."""


def generator(how: Setting) -> np.random.Generator:
    """Of random input: the same for every network."""
    return np.random.default_rng(how.seed)
