"""Which nodes of an 8-bit network stay in float32 because they are faster so, as measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.export.precision._int8 import WEIGHTED
from slimnet.files import scratch_folder
from slimnet.onnx import graph as ir
from slimnet.progress import each

if TYPE_CHECKING:
    from slimnet.measure import LatencyReport
    from slimnet.measure.timings import Variant

Compare = Callable[[Mapping[str, Path]], "LatencyReport"]
"""name → file, in; a paired run with the first as the baseline, out."""

ALL, TOGETHER = "all int8", "together"
MOST = 24
"""Candidates that are timed: a round of all takes as many runs of the network."""


@dataclass(frozen=True)
class Candidate:
    """Nodes that may stay in float32 together.

    Attributes:
        name: of what they have in common.
        nodes: their names.
    """

    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Placement:
    """What stays in float32.

    Attributes:
        nodes: names of the nodes; none if nothing is surely faster so.
        data: the network.
        tried: in JSON values: each candidate with its speed-up over the network that is all int8, and the second run.
    """

    nodes: tuple[str, ...]
    data: bytes
    tried: Mapping[str, Any]


def candidates(data: bytes) -> list[Candidate]:
    """What may stay in float32 together, most nodes first.

    All nodes that make maps of one height and width, since between them nothing is converted then; and layers with weights of one
    shape that do so, since they are as fast as each other.

    Args:
        data: the prepared float32 network.
    """
    graph = ir.read(data).graph
    sizes, alike, weighted = defaultdict(list), defaultdict(list), set()
    for node in graph:
        where = tuple(ir.shape(node.outputs[0]) or ())[2:]
        if None not in where:
            sizes[f"maps of {'×'.join(map(str, where))}" if where else "no maps"].append(node.name)
            if node.op_type in WEIGHTED and (weight := ir.stored(node.inputs[1])) is not None:
                weighted.add(node.name)
                alike[f"{node.op_type} {'×'.join(map(str, (*weight.shape, 'to', *where)))}"].append(node.name)
    groups = [Candidate(name, tuple(nodes)) for part in (sizes, alike) for name, nodes in part.items()]
    one_each = {each.nodes: each for each in groups if 0 < len(weighted & set(each.nodes)) < len(weighted)}
    return sorted(one_each.values(), key=lambda one: -len(one.nodes))[:MOST]


def place(
    quantise: Callable[[tuple[str, ...]], bytes],
    found: Sequence[Candidate],
    *,
    fixed: tuple[str, ...],
    compare: Compare,
    accepts: Callable[[bytes], bool],
    layers: Sequence[str],
) -> Placement:
    """Leave in float32 what makes the network faster so, twice measured.

    First each candidate alone against the network that is all int8, in one paired run; then those that are surely faster, all
    together and the best of them alone, in another: by chance the best of many looks better than it is. The fastest that is
    surely faster there and accepted is taken.

    Args:
        quantise: names of the nodes in float32 → the network.
        found: what may stay in float32.
        fixed: nodes that do in any case, for accuracy.
        compare: the paired run.
        accepts: whether a network is accurate enough.
        layers: with weights; one of them must be left in int8.
    """
    base = quantise(fixed)
    made = {one.name: quantise((*fixed, *one.nodes)) for one in each(found, "placing int8", len(found), "candidates")}
    first = _timed({ALL: base, **made}, compare)
    faster = surely_faster(first, list(made))
    tried: dict[str, Any] = {"first": _told(first)}
    if not faster:
        return Placement(fixed, base, tried)
    nodes = {one.name: one.nodes for one in found}
    together = tuple(dict.fromkeys(name for one in faster for name in nodes[one]))
    choices = {faster[0]: (*fixed, *nodes[faster[0]])}
    if set(together) != set(nodes[faster[0]]) and not set(layers) <= {*fixed, *together}:
        choices[TOGETHER] = (*fixed, *together)
    files = {name: quantise(kept) for name, kept in choices.items()}
    second = _timed({ALL: base, **files}, compare)
    tried["second"] = _told(second)
    chosen = next((name for name in surely_faster(second, list(files)) if accepts(files[name])), None)
    if chosen is None:
        return Placement(fixed, base, tried)
    return Placement(tuple(dict.fromkeys(choices[chosen])), files[chosen], tried)


def surely_faster(report: LatencyReport, names: Sequence[str]) -> list[str]:
    """Those whose whole interval lies above 1 by more than the A/A control is off, the fastest first."""
    doubt = doubt_of(report.control)
    return sorted((name for name in names if report[name].interval[0] > 1 + doubt), key=lambda name: -report[name].speedup)


def doubt_of(control: Variant) -> float:
    """How far the A/A control, and the ends of its interval, are from 1."""
    return max(abs(end - 1) for end in (control.speedup, *control.interval))


def _timed(networks: Mapping[str, bytes], compare: Compare) -> LatencyReport:
    with scratch_folder("place") as folder:
        files = {name: folder / f"{number}.onnx" for number, name in enumerate(networks)}
        for name, data in networks.items():
            files[name].write_bytes(data)
        return compare(files)


def _told(report: LatencyReport) -> dict[str, Any]:
    """The run in JSON values."""
    rows = {one.name: {"speedup": one.speedup, "interval": list(one.interval)} for one in report.variants}
    return {**rows, "control": {"speedup": report.control.speedup, "interval": list(report.control.interval)}}
