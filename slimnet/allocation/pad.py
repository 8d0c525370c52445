"""Closed channels that are worth keeping, because the kernels of the machine are faster with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from slimnet.allocation.cost import NetworkCost
from slimnet.measure.costs.grid import Layout

LEAST_GAIN = 0.005  # of the predicted time: less is within the error of any prediction


def padded_widths(cost: NetworkCost, kept: Mapping[str, int], sizes: Mapping[str, int], layout: Layout) -> dict[str, int]:
    """The groups that are to keep closed channels so that the network is predicted to run faster, and how many they keep then.

    Begins with every group at the next width that suits the kernels, and with none; goes on from the faster of the two, one group
    at a time, until nothing is gained.

    Args:
        cost: of the dense network.
        kept: group name → channels that must stay.
        sizes: group name → channels there are; more cannot be kept.
        layout: how the machine's kernels take channels.

    Returns:
        Group name → width, only where it is more than must stay; empty where padding does not pay.
    """
    ladders = {name: list(_ladder(width, sizes[name], layout)) for name, width in kept.items()}
    raised = {name: next((width for width in ladder if layout.suits(width)), ladder[0]) for name, ladder in ladders.items()}
    best = min((dict(kept), raised), key=cost.milliseconds)
    changed = True
    while changed:
        changed = False
        for name, ladder in ladders.items():
            for width in ladder:
                trial = {**best, name: width}
                if cost.milliseconds(trial) < cost.milliseconds(best) * (1 - 1e-9):
                    best, changed = trial, True
    if cost.milliseconds(best) > cost.milliseconds(kept) * (1 - LEAST_GAIN):
        return {}
    return {name: width for name, width in best.items() if width > kept[name]}


def _ladder(width: int, size: int, layout: Layout) -> Iterator[int]:
    """The width itself, and the next ones that suit the kernels and fill them, as far as there are channels."""
    yield width
    for multiple in sorted({layout.step, layout.block}):
        rounded = -(-width // multiple) * multiple
        if width < rounded <= size:
            yield rounded
