"""From a network and a target to widths, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from slimnet.allocation.budget import Budget
from slimnet.allocation.choose import Allocation, allocate
from slimnet.allocation.cost import NetworkCost
from slimnet.graph import ChannelGroup
from slimnet.measure.costs import CostTable, Target
from slimnet.measure.costs.table import Progress


def fit_widths(
    model: nn.Module,
    example: Tensor,
    groups: Sequence[ChannelGroup],
    scores: Mapping[str, Tensor],
    budget: Budget,
    *,
    threads: int = 1,
    batch: int = 1,
    align: int | None = None,
    progress: Progress | None = None,
) -> Allocation:
    """Measure what layers cost on this machine, and choose how many channels each group keeps.

    Args:
        model: the network; left as it was.
        example: images (N, C, H, W), N at least 2.
        groups: its channel groups.
        scores: name of a group that may shrink → (size,) scores, at least 0; the highest stay.
        budget: the target.
        threads, batch: of the ONNX Runtime session that the target is for.
        align: choose from multiples of this; None: from the widths that fill the kernels of this machine.
        progress: called with the number of times measured and to be measured.

    Raises:
        ArgumentError: if a number is below 1, or the target cannot be met.
        ExportError: if the network cannot be exported.
        MeasureError: if a layer does not run.
    """
    table = CostTable(Target(threads=threads, batch=batch))
    cost = NetworkCost.measure(model, example, groups, table, progress=progress)
    return allocate(cost, scores, budget, table.layout, align=align)
