"""One-shot pruning: close the lowest filters of a trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from slimnet._modes import unwrapped
from slimnet.criteria import ClassStatistics, get_criterion, group_scores, lowest, select
from slimnet.errors import ArgumentError
from slimnet.graph import ChannelGroup, channel_groups, not_ignored, prunable
from slimnet.masks import SoftMask
from slimnet.names import Couple, Ranking
from slimnet.parts import catch_part


def prune(
    model: nn.Module,
    example_inputs: Tensor | tuple[Tensor, ...],
    *,
    criterion: str = "l2",
    rate: float | None = None,
    widths: Mapping[str, int] | None = None,
    couple: Couple = "stream",
    mask_norm: bool = True,
    ranking: Ranking = "group",
    ignore: Sequence[str] = (),
    statistics: ClassStatistics | None = None,
    part: str | None = None,
) -> SoftMask:
    """Set the filters of lowest score to exactly zero, in place.

    Args:
        model: the network; its weights change.
        example_inputs: what the network takes, a tensor or a tuple of tensors.
        criterion: one of `slimnet.names.CRITERIA`; ``"taylor"`` needs a backward pass before, ``"cs"`` needs ``statistics``.
        rate: share of filters to close, in [0, 1); one filter at least stays in every group.
        widths: instead of a rate: how many channels each group keeps (see `slimnet.allocation`); groups that are not named
            keep all.
        couple: ``"stream"``: layers that are added close together, so that all of it can be cut out;
            ``"none"``: every layer for itself.
        mask_norm: whether norms close with their filters. Without it a closed filter leaves a constant
            behind.
        ranking: ``"group"``: ⌊F · rate⌋ filters of every group; ``"global"``: the lowest scores of all groups, each relative to
            the mean of its group.
        ignore: patterns (``fnmatch``) of the names of groups that are left alone.
        statistics: class statistics, for ``"cs"`` (see :func:`slimnet.criteria.collect_class_statistics`).
        part: submodules by name, joined by ``+``, that alone are pruned: see :func:`slimnet.slim`.

    Returns:
        The masks, as applied: ζ = 0 where a filter is closed, else 1.

    Raises:
        ArgumentError: if ``rate``, ``criterion`` or ``ranking`` is out of range, a pattern matches nothing, or the criterion
            lacks what it needs.
        GraphError: if the model cannot be analysed, or the part not taken out.
    """
    if (rate is None) == (widths is None):
        raise ArgumentError("give either `rate` or `widths`.")
    if rate is not None and not 0 <= rate < 1:
        raise ArgumentError(f"`rate` must be in [0, 1), got {rate}.")
    get_criterion(criterion)
    model = unwrapped(model)
    if part is not None:
        caught = catch_part(model, example_inputs, part)
        model, example_inputs = caught.module, caught.inputs
    groups = _chosen(channel_groups(model, example_inputs, couple=couple), ignore)
    scores = {group.name: group_scores(model, group, criterion, statistics=statistics) for group in groups}
    mask = SoftMask(model, groups, mask_norm=mask_norm)
    chosen = select(scores, rate, ranking) if rate is not None else _down_to(scores, widths or {})
    for name, closed in chosen.items():
        scale = torch.ones(len(scores[name]))
        scale[closed] = 0.0
        mask.set(name, scale)
    mask.apply()
    return mask


def _down_to(scores: Mapping[str, Tensor], widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Group name → the lowest channels, so many that the width stays."""
    for name, width in widths.items():
        if name not in scores:
            raise ArgumentError(f"`widths` names {name!r}, which is no channel group; there are: {', '.join(scores)}.")
        if not 0 <= width <= len(scores[name]):
            raise ArgumentError(f"the width of {name} must be from 0 to {len(scores[name])}, got {width}.")
    return {name: lowest(scores[name], len(scores[name]) - width) for name, width in widths.items()}


def _chosen(groups: Sequence[ChannelGroup], ignore: Sequence[str]) -> tuple[ChannelGroup, ...]:
    free = prunable(groups)
    if not free:
        raise ArgumentError(f"no channel group of this network may be pruned: {why_none(groups)}.")
    chosen = not_ignored(free, ignore)
    if not chosen:
        raise ArgumentError("no channel group is left to prune: `ignore` matches all of them.")
    return chosen


def why_none(groups: Sequence[ChannelGroup], most: int = 4) -> str:
    """Why the groups of a network may not be pruned, with the first group of each reason; the rest is counted."""
    first: dict[str, str] = {}
    for group in groups:
        if group.weights and group.pinned:
            first.setdefault(group.pinned, group.name)
    told = [f"{name}: {reason}" for reason, name in first.items()]
    more = f"; and {len(told) - most} reasons more, which `slimnet inspect` tells" if len(told) > most else ""
    return "; ".join(told[:most]) + more if told else "it has no convolution or linear layer whose filters could go"
