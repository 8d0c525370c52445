"""What residual branches are worth: the loss without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimnet.errors import ArgumentError
from slimnet.graph import ChannelGroup, in_eval_mode

Batch = tuple[Tensor, Tensor]
Forward = Callable[[Tensor], Tensor]


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

    Norms use the statistics of the batch at hand, as if they had been estimated afresh. Weights and statistics are as before at
    the end.

    Args:
        model: a trained network.
        branches: see :func:`slimnet.graph.residual_branches`.
        batches: images (N, C, H, W) and labels (N,) of the training split; kept in memory. N should be some hundreds.
        count: how many branches to close.
        forward: how the network is called, e.g. under autocast; default: ``model`` itself.
        progress: told the name and the loss of every branch that is chosen.

    Returns:
        (name, mean cross-entropy with this branch and those before it closed), in order.

    Raises:
        ArgumentError: if there are fewer branches than ``count``, or no batch.
    """
    if count > len(branches):
        raise ArgumentError(f"`count` must be at most the {len(branches)} residual branches, got {count}.")
    kept = list(batches)
    if not kept:
        raise ArgumentError("`batches` holds no batch: give training images.")
    left, closed = list(branches), list[ChannelGroup]()
    order: list[tuple[str, float]] = []
    with _batch_statistics(model):
        while len(order) < count:
            losses = [_loss_without(model, [*closed, branch], kept, forward or model) for branch in left]
            best = min(range(len(left)), key=losses.__getitem__)
            closed.append(left.pop(best))
            order.append((closed[-1].name, losses[best]))
            if progress is not None:
                progress(*order[-1])
    return order


@torch.no_grad()
def _loss_without(model: nn.Module, closed: Sequence[ChannelGroup], batches: Sequence[Batch], forward: Forward) -> float:
    """Mean cross-entropy with these branches closed; their weights are put back."""
    names = [rows.name for branch in closed for rows in branch.filters]
    before = {name: model.get_parameter(name).detach().clone() for name in names}
    try:
        for name in names:
            model.get_parameter(name).zero_()
        sums = [F.cross_entropy(forward(images).float(), labels, reduction="sum") for images, labels in batches]
    finally:
        for name, value in before.items():
            model.get_parameter(name).copy_(value)
    return float(torch.stack(sums).sum()) / sum(len(labels) for _, labels in batches)


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Inside: eval mode, but norms take the statistics of each batch and remember none."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    running = [(norm.running_mean, norm.running_var) for norm in norms]
    with in_eval_mode(model):
        for norm in norms:
            norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
        try:
            yield
        finally:
            for norm, track, (mean, variance) in zip(norms, tracked, running, strict=True):
                norm.track_running_stats, norm.running_mean, norm.running_var = track, mean, variance
