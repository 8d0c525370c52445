"""Times of the single nodes of a network, as ONNX Runtime's own profile tells them."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slimnet.errors import MeasureError
from slimnet.measure.costs.store import Target
from slimnet.measure.sessions import open_session

WARM_UP = 3
_ENDING = "_kernel_time"


@dataclass(frozen=True)
class Node:
    """One node of the network as the runtime has rewritten it.

    Attributes:
        name: that the runtime gave it.
        op: its operator, e.g. ``"Conv"`` or ``"ReorderInput"``.
        shape: of its first output; empty where the profile does not tell.
        microseconds: of one run: the mean of the faster half of the runs, so that interruptions do not count.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    microseconds: float


@dataclass(frozen=True)
class NodeTimes:
    """The nodes of a network with their times.

    Attributes:
        nodes: in the order of execution.
    """

    nodes: tuple[Node, ...]

    def total(self, *ops: str) -> float:
        """Microseconds of all nodes with these operators; of all nodes where none is named."""
        return sum(node.microseconds for node in self.nodes if not ops or node.op in ops)


def profile_nodes(model: Path | bytes, target: Target, *, runs: int = 20) -> NodeTimes:
    """Run a network and read the times of its nodes from the runtime's profile.

    Args:
        model: an ONNX file, or its content.
        target: how it is run.
        runs: so many, after a few that warm up.

    Raises:
        FileFormatError: if it is not an ONNX network.
        MeasureError: if it does not run, or the runtime's profile cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="slimnet-profile-") as folder:
        session = open_session(model, threads=target.threads, profile=Path(folder) / "profile")
        _walls(session, target, runs)
        return NodeTimes(tuple(_nodes(_events(Path(session.end_profiling())))))


def run_time(model: Path | bytes, target: Target, *, runs: int = 20) -> float:
    """Microseconds of one whole run, seen from outside and without the profile, which costs some for every node.

    Args:
        model: an ONNX file, or its content.
        target: how it is run.
        runs: so many, after a few that warm up; the mean of the faster half counts.

    Raises:
        FileFormatError: if it is not an ONNX network.
        MeasureError: if it does not run.
    """
    return faster_half(_walls(open_session(model, threads=target.threads), target, runs)) / 1e3


def _walls(session: Any, target: Target, runs: int) -> list[int]:
    """Nanoseconds of each run after those that warm up."""
    rng = np.random.default_rng(0)
    feed = {spec.name: _random(spec, target, rng) for spec in session.get_inputs()}
    walls = []
    try:
        for _ in range(WARM_UP + runs):
            start = time.perf_counter_ns()
            session.run(None, feed)
            walls.append(time.perf_counter_ns() - start)
    except Exception as error:  # onnxruntime's errors share no base class
        raise MeasureError(f"the network does not run: {' '.join(str(error).split())}") from None
    return walls[WARM_UP:]


def faster_half(values: list[int] | list[float]) -> float:
    """The mean of the smaller half of the values."""
    return float(np.mean(sorted(values)[: max(1, (len(values) + 1) // 2)]))


def _random(spec: Any, target: Target, rng: np.random.Generator) -> Any:
    shape = [size if isinstance(size, int) else target.batch for size in spec.shape]
    return rng.standard_normal(shape).astype(np.float32)


def _events(path: Path) -> list[dict[str, Any]]:
    try:
        return [event for event in json.loads(path.read_text(encoding="utf-8")) if event.get("cat") == "Node"]
    except (OSError, ValueError, AttributeError) as error:
        raise MeasureError(f"ONNX Runtime's profile cannot be read: {error}") from None


def _nodes(events: list[dict[str, Any]]) -> list[Node]:
    times: dict[str, list[float]] = defaultdict(list)
    about: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["name"].endswith(_ENDING):
            name = event["name"].removesuffix(_ENDING)
            times[name].append(float(event["dur"]))
            about.setdefault(name, event.get("args", {}))
    return [
        Node(name, about[name].get("op_name", ""), _shape(about[name]), faster_half(values[WARM_UP:] or values))
        for name, values in times.items()
    ]


def _shape(about: dict[str, Any]) -> tuple[int, ...]:
    shapes = about.get("output_type_shape") or [{}]
    found: list[int] = next(iter(shapes[0].values()), [])
    return tuple(found)
