"""What residual branches are worth: the loss without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from slimnet.criteria.losses import Batch, ClosedLoss, Forward
from slimnet.errors import ArgumentError
from slimnet.graph import ChannelGroup

WHOLE = torch.tensor([0])
"""The one channel of a branch."""


def branch_order(
    model: nn.Module,
    branches: Sequence[ChannelGroup],
    batches: Iterable[Batch],
    count: int,
    *,
    forward: Forward | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> list[tuple[str, float]]:
    """The branches whose loss is least, one after another: greedily, each one with those before it closed.

    Args:
        model: a trained network.
        branches: see :func:`slimnet.graph.residual_branches`.
        batches, forward: see :class:`ClosedLoss`.
        count: how many branches to close.
        progress: told the name and the loss of every branch that is chosen.

    Returns:
        (name, mean cross-entropy with this branch and those before it closed), in order.

    Raises:
        ArgumentError: if there are fewer branches than ``count``, or no batch.
    """
    if count > len(branches):
        raise ArgumentError(f"`count` must be at most the {len(branches)} residual branches, got {count}.")
    loss = ClosedLoss(model, batches, forward=forward)
    left, closed = list(branches), list[ChannelGroup]()
    order: list[tuple[str, float]] = []
    while len(order) < count:
        losses = [loss([(part, WHOLE) for part in (*closed, branch)]) for branch in left]
        best = min(range(len(left)), key=losses.__getitem__)
        closed.append(left.pop(best))
        order.append((closed[-1].name, losses[best]))
        if progress is not None:
            progress(*order[-1])
    return order
