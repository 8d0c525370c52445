"""Times of the single nodes of a network, as ONNX Runtime's own profile tells them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from slimnet._json import decode, read_text
from slimnet.errors import FileFormatError, MeasureError, whole_text
from slimnet.files import scratch_folder
from slimnet.measure.costs.store import Target
from slimnet.measure.inputs import make_input
from slimnet.measure.sessions import input_specs
from slimnet.measure.timed import Array, Setting
from slimnet.onnx.session import Session, open_session

WARM_UP, LEAST = 3, 5
ENOUGH = 10.0
"""Seconds after which no more than the least number of rounds is run."""
_ENDING, _RUN = "_kernel_time", "model_run"
Event = dict[str, Any]


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
        nodes: in the order of execution; the time of one that holds a graph (``Loop``, ``If``) is that of all within.
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
        ArgumentError: if it takes another batch than the target's.
        FileFormatError: if it is not an ONNX network.
        MeasureError: if it does not run, or the runtime's profile cannot be read.
    """
    with scratch_folder("profile") as folder:
        session = open_session(model, threads=target.threads, profile=folder / "profile")
        _walls([session], target, runs)
        return NodeTimes(tuple(_nodes(_profiled(Path(session.raw.end_profiling())))))


def profile_network(
    model: Path | bytes, target: Target, shapes: Sequence[Sequence[int]] | None = None, *, runs: int = 20
) -> tuple[NodeTimes, float]:
    """The same, and what a run costs beside its nodes.

    A session without the profile, which costs some for every node, is timed in the same rounds, and the difference taken within a
    round: so a machine that gets busy slows both alike.

    Args:
        model: an ONNX file, or its content.
        target: how it is run.
        shapes: of its inputs, in order, without the batch; None: as the model says.
        runs: rounds, after a few that warm up; fewer, but at least 5, where they take more than 10 seconds.

    Returns:
        The nodes; and microseconds: the median of a run of the plain session less the nodes of the other one, at least 0.

    Raises:
        ArgumentError: if it takes another batch than the target's.
        FileFormatError: if it is not an ONNX network.
        MeasureError: if it does not run, or the runtime's profile cannot be read.
    """
    with scratch_folder("profile") as folder:
        session = open_session(model, threads=target.threads, profile=folder / "profile")
        walls = _walls([session, open_session(model, threads=target.threads)], target, runs, shapes)[1]
        profiled = _profiled(Path(session.raw.end_profiling()))
    totals = np.asarray([sum(event["dur"] for event in events) for events in profiled[WARM_UP:]])
    return NodeTimes(tuple(_nodes(profiled))), max(float(np.median(np.asarray(walls) / 1e3 - totals)), 0.0)


def _walls(
    sessions: Sequence[Session], target: Target, runs: int, shapes: Sequence[Sequence[int]] | None = None
) -> list[list[int]]:
    """Nanoseconds of each run of each session, in turns, after those that warm up."""
    feed = _feed(sessions[0], target, shapes)
    walls: list[list[int]] = [[] for _ in sessions]
    try:
        begun = time.monotonic()
        for done in range(WARM_UP + runs):
            if done >= WARM_UP + LEAST and time.monotonic() - begun > ENOUGH:
                break
            for times, session in zip(walls, sessions, strict=True):
                start = time.perf_counter_ns()
                session.raw.run(None, feed)
                times.append(time.perf_counter_ns() - start)
    except Exception as error:  # onnxruntime's errors share no base class
        raise MeasureError(f"the network does not run: {whole_text(error)}") from None
    return [times[WARM_UP:] for times in walls]


def faster_half(values: list[int] | list[float]) -> float:
    """The mean of the smaller half of the values."""
    return float(np.mean(sorted(values)[: max(1, (len(values) + 1) // 2)]))


def _feed(session: Session, target: Target, shapes: Sequence[Sequence[int]] | None) -> dict[str, Array]:
    """Random input, of the kinds that the network takes."""
    how, rng, specs = Setting(target.threads, target.batch), np.random.default_rng(0), input_specs(session, "the network")
    if shapes is not None:
        specs = [replace(spec, shape=[*spec.shape[:1], *size]) for spec, size in zip(specs, shapes, strict=True)]
    return {spec.name: make_input(spec, how, rng) for spec in specs}


def _profiled(path: Path) -> list[list[Event]]:
    """The events of each run, a node each, in order."""
    runs: list[list[Event]] = []
    nodes: list[Event] = []
    try:
        for event in decode(read_text(path), str(path)):
            if event.get("cat") == "Node" and event["name"].endswith(_ENDING):
                nodes.append(event)
            elif event.get("name") == _RUN:
                runs.append(_outer(nodes))
                nodes = []
    except (FileFormatError, TypeError, AttributeError, KeyError) as error:
        raise MeasureError(f"ONNX Runtime's profile cannot be read: {error}") from None
    return runs


def _outer(events: Sequence[Event]) -> list[Event]:
    """Without the nodes of graphs within nodes, which have ended, and are told, before the node around them."""
    found: list[Event] = []
    for event in reversed(events):
        if not found or event["ts"] + event["dur"] <= found[-1]["ts"]:
            found.append(event)
    return found[::-1]


def _nodes(runs: Sequence[Sequence[Event]]) -> list[Node]:
    times: dict[str, list[float]] = defaultdict(list)
    about: dict[str, dict[str, Any]] = {}
    for event in chain.from_iterable(runs):
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
