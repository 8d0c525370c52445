"""An imagined machine, whose times are known without measuring."""

from __future__ import annotations

import numpy as np
import pytest

from slimnet.measure.costs import NodeTimes, Site, Target, timer
from slimnet.measure.costs.grid import Layout
from slimnet.measure.costs.profile import Node

CONV = Site("conv", size=(8, 8), kernel=(3, 3), padding=(1, 1))
BLOCKS = Layout(step=4, block=16)


def staircase(site: Site, reads: int, makes: int) -> float:
    """Microseconds of an imagined machine: blocks of 16, and three times the time for widths that are no multiple of 4."""
    suits = reads % 4 == 0 and makes % 4 == 0
    work = np.prod([*site.output_size, *site.kernel])
    if site.kind == "depthwise":
        return 1 + float(work) * makes / 1e3
    filled = -(-reads // 16) * 16 * -(-makes // 16) * 16 if suits else 3 * reads * makes
    return 1 + float(work) * filled / 1e6


def imagine(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Site, int, int]]:
    """Every probe takes what the imagined machine says, and so does a network; the list holds what was probed."""
    seen: list[tuple[Site, int, int]] = []

    def probe(site: Site, reads: int, makes: int) -> tuple[Site, int, int]:
        seen.append((site, reads, makes))
        return site, reads, makes

    def profile(probed: tuple[Site, int, int], target: Target, **_: object) -> NodeTimes:
        time = staircase(*probed)
        return NodeTimes((Node("layer", "Conv", (1,), time),))

    monkeypatch.setattr(timer, "probe_model", probe)

    def profile_whole(*_: object, **__: object) -> tuple[NodeTimes, float]:
        """No longer than in the table, in proportion; next to nothing beside the layers."""
        return NodeTimes((Node("all", "Conv", (1,), 1.0), Node("pool", "MaxPool", (1,), 0.02))), 0.02

    monkeypatch.setattr(timer, "profile_nodes", profile)
    monkeypatch.setattr(timer, "profile_network", profile_whole)
    return seen
