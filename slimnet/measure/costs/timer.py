"""What tells the time of a layer and of a network: ONNX Runtime by its own profile; other runtimes are given from above."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from slimnet.errors import MeasureError
from slimnet.measure.costs.probe import LAYER, probe_model
from slimnet.measure.costs.profile import NodeTimes, profile_network, profile_nodes
from slimnet.measure.costs.site import Site
from slimnet.measure.costs.store import Target

LAYER_RUNS, NETWORK_RUNS = 12, 30


class Timer(Protocol):
    """Runs layers and networks on a target.

    Attributes:
        resolution: microseconds by which two times of the same layer may differ on a quiet machine, however short it is.
    """

    resolution: float

    def layer(self, site: Site, reads: int, makes: int) -> float:
        """Microseconds of a layer, for the whole batch."""

    def network(self, path: Path, shapes: Sequence[Sequence[int]]) -> tuple[NodeTimes, float]:
        """The parts of the network in an ONNX file, and microseconds that a run costs beside them.

        Args:
            path: the file.
            shapes: of its inputs, in order, without the batch; they stand for sizes that the file leaves open.
        """


class OnnxRuntimeTimer:
    """The profile of ONNX Runtime.

    Args:
        target: how networks will run.
    """

    resolution = 0.0

    def __init__(self, target: Target) -> None:
        self._target = target

    def layer(self, site: Site, reads: int, makes: int) -> float:
        """Of the layer between neighbours of its own kind, see :func:`layer_time`."""
        return layer_time(profile_nodes(probe_model(site, reads, makes), self._target, runs=LAYER_RUNS))

    def network(self, path: Path, shapes: Sequence[Sequence[int]]) -> tuple[NodeTimes, float]:
        """Its nodes, see :func:`profile_network`."""
        return profile_network(path, self._target, shapes, runs=NETWORK_RUNS)


def layer_time(found: NodeTimes) -> float:
    """Microseconds of the probed layer, with the change of memory layout that its input needs.

    Raises:
        MeasureError: if the runtime has no such node: it was fused away or removed.
    """
    names = [node.name for node in found.nodes]
    place = next((i for i, name in enumerate(names) if LAYER in name), None)
    if place is None:
        raise MeasureError(f"the runtime shows no time of a probed layer among: {', '.join(names)}.")
    reorders = sum(node.microseconds for node in found.nodes[:place] if node.op.startswith("Reorder"))
    return found.nodes[place].microseconds + reorders
