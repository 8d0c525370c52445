"""From a network and a target to widths, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from slimnet._say import Say, quarters
from slimnet.allocation.budget import Budget
from slimnet.allocation.choose import Allocation, allocate
from slimnet.allocation.cost import NetworkCost
from slimnet.allocation.pad import padded_widths
from slimnet.graph import ChannelGroup
from slimnet.measure.costs import CostTable, Target
from slimnet.measure.costs.table import Progress


def telling(say: Say) -> Progress:
    """Progress of the measurements in words: how many are to be made, and every quarter that is done.

    Args:
        say: told a line at a time.
    """
    progress = quarters(lambda done: say(f"measuring what layers cost on this machine: {25 * done} %"))
    return lambda done, total: progress(done / total)


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
    shut_branches: bool = False,
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
        shut_branches: let residual branches go as a whole, see :func:`allocate`.
        align: choose from multiples of this; None: from the widths that fill the kernels of this machine.
        progress: called with the number of times measured and to be measured.

    Raises:
        ArgumentError: if a number is below 1, or the target cannot be met.
        ExportError: if the network cannot be exported.
        MeasureError: if a layer does not run.
    """
    table = CostTable(Target(threads=threads, batch=batch))
    cost = NetworkCost.measure(model, example, groups, table, progress=progress)
    return allocate(cost, scores, budget, table.layout, align=align, shut_branches=shut_branches)


def fit_padding(
    model: nn.Module,
    example: Tensor,
    groups: Sequence[ChannelGroup],
    kept: Mapping[str, int],
    *,
    threads: int = 1,
    batch: int = 1,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Measure what layers cost on this machine, and choose which groups keep closed channels to run faster.

    Args:
        model: the network before it is cut; left as it was.
        example: images (N, C, H, W), N at least 2.
        groups: its channel groups.
        kept: group name → channels that must stay.
        threads, batch: of the ONNX Runtime session.
        progress: called with the number of times measured and to be measured.

    Returns:
        Group name → width, where it is more than must stay (see :func:`padded_widths`).
    """
    table = CostTable(Target(threads=threads, batch=batch))
    cost = NetworkCost.measure(model, example, groups, table, progress=progress)
    sizes = {group.name: group.size for group in groups if group.name in kept}
    return padded_widths(cost, {name: kept[name] for name in sizes}, sizes, table.layout)
