"""Scores of the channels of a group: one a layer, made comparable, averaged over the layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from slimnet._modes import unwrapped
from slimnet.criteria.scores import Source, get_criterion
from slimnet.criteria.statistics import ClassStatistics
from slimnet.errors import ArgumentError
from slimnet.graph.groups import ChannelGroup, Rows


def group_scores(
    model: nn.Module,
    group: ChannelGroup,
    criterion: str,
    *,
    statistics: ClassStatistics | None = None,
    scale: Tensor | None = None,
    unscaled: Collection[str] = (),
    among: Tensor | None = None,
) -> Tensor:
    r"""One score a channel of a group, lowest pruned first.

    Each layer (member) that makes the channels is scored for itself; its scores are divided by their mean,
    so that a layer of large weights does not outvote the others of its stream; the average over the layers
    is the group's score:

    .. math:: S_c = \frac1M \sum_m \frac{s_{m,c}}{\operatorname{mean}_{c'} s_{m,c'}}

    Only the rows that belong to the group take part: where it holds a part of a layer's filters,
    geometric-median distances are those among these.

    Args:
        model: the network of the group.
        group: the channels.
        criterion: a name of :data:`CRITERIA`.
        statistics: class statistics behind :func:`statistics_modules`, for ``"cs"``.
        scale: (size,) factors that the channels carry already; divided out (a factor of 0 is left alone).
        unscaled: names of weights that do not carry them.
        among: (size,) bool: score these channels among themselves; the others get +inf.

    Returns:
        (size,) float64, on the CPU.

    Raises:
        ArgumentError: if the criterion is unknown, lacks what it needs, or the weights are not finite.
    """
    rule = get_criterion(criterion)
    chosen = torch.ones(group.size, dtype=torch.bool) if among is None else among.cpu()
    total = torch.zeros(group.size, dtype=torch.float64)
    total[~chosen] = torch.inf
    if not bool(chosen.any()):
        return total
    members = [
        _relative(rule.score(_unscaled(rows, None if name in unscaled else scale)[chosen.to(rows.device)]).cpu(), name)
        for name, rows in _members(model, group, rule.source, statistics)
    ]
    if not members:
        raise ArgumentError(f"criterion {criterion!r} has nothing to score in {group.name!r}: no {rule.source} there.")
    total[chosen] = torch.stack(members).mean(0)
    return total


def statistics_modules(group: ChannelGroup) -> tuple[str, ...]:
    """Names of the modules that put out the group's feature maps: its norms, else the layers that make it."""
    return tuple(_unique(group.norms or group.weights))


def _members(
    model: nn.Module, group: ChannelGroup, source: Source, statistics: ClassStatistics | None
) -> Iterator[tuple[str, Tensor]]:
    """The name and the (size, D) rows of every layer to score."""
    if source == "statistics":
        if statistics is None:
            raise ArgumentError("criterion 'cs' needs class statistics: pass `statistics`.")
        for name, rows in _unique(group.norms or group.weights).items():
            yield name, _gather(statistics.means(name), 1, rows)
        return
    for rows in group.weights if source != "norms" else _norm_weights(group):
        parameter = unwrapped(model).get_parameter(rows.name)
        tensor = parameter.detach()
        if source == "gradients":
            if parameter.grad is None:
                raise ArgumentError(f"criterion 'taylor' needs gradients, {rows.name!r} has none: run backward first.")
            tensor = tensor * parameter.grad
        yield rows.name, _gather(tensor, rows.dim, rows)


def _norm_weights(group: ChannelGroup) -> Iterator[Rows]:
    return (rows for rows in group.norms if rows.name.rpartition(".")[2] == "weight")


def _unique(members: tuple[Rows, ...]) -> dict[str, Rows]:
    """Module name → the first of its tensors (all of a module's tensors have the same rows)."""
    found: dict[str, Rows] = {}
    for rows in members:
        found.setdefault(rows.module, rows)
    return found


def _gather(tensor: Tensor, dim: int, rows: Rows) -> Tensor:
    """(size, D): what belongs to each channel of the group."""
    picked = tensor.movedim(dim, 0)[rows.flat().to(tensor.device)]
    return picked.reshape(rows.index.shape[0], -1)


def _unscaled(rows: Tensor, scale: Tensor | None) -> Tensor:
    if scale is None:
        return rows
    divisor = torch.where(scale > 0, scale, torch.ones_like(scale)).to(rows.device, torch.float64)
    return rows.to(torch.float64) / divisor[:, None]


def _relative(values: Tensor, name: str) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise ArgumentError(f"{name!r} gives scores that are not finite: its weights hold inf or nan.")
    mean = values.mean()
    return values / mean if float(mean) > 0 else values
