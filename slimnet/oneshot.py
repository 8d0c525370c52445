"""One-shot pruning: close the lowest filters of a trained network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slimnet.criteria import ClassStatistics, exact_count, get_criterion, group_scores, lowest
from slimnet.errors import ArgumentError
from slimnet.graph.groups import Couple, prunable
from slimnet.masks import SoftMask


def prune(
    model: nn.Module,
    example_inputs: Tensor | tuple[Tensor, ...],
    *,
    criterion: str = "l2",
    rate: float,
    couple: Couple = "stream",
    mask_norm: bool = True,
    statistics: ClassStatistics | None = None,
) -> SoftMask:
    """Set the ⌊F · rate⌋ filters of lowest score in every channel group to exactly zero, in place.

    Args:
        model: the network; its weights change.
        example_inputs: what the network takes, a tensor or a tuple of tensors.
        criterion: ``"l1"``, ``"l2"``, ``"gm"`` (geometric median), ``"norm-scale"``, ``"taylor"`` (after a
            backward pass) or ``"cs"`` (class separability; needs ``statistics``).
        rate: share of filters to close in every group, in [0, 1); one filter at least stays.
        couple: ``"stream"``: layers that are added close together, so that all of it can be cut out;
            ``"none"``: every layer for itself.
        mask_norm: whether norms close with their filters. Without it a closed filter leaves a constant
            behind.
        statistics: class statistics, for ``"cs"`` (see :func:`slimnet.criteria.collect_class_statistics`).

    Returns:
        The masks, as applied: ζ = 0 where a filter is closed, else 1.

    Raises:
        ArgumentError: if ``rate`` or ``criterion`` is out of range, or the criterion lacks what it needs.
    """
    from slimnet.graph import channel_groups

    if not 0 <= rate < 1:
        raise ArgumentError(f"`rate` must be in [0, 1), got {rate}.")
    get_criterion(criterion)
    groups = prunable(channel_groups(model, example_inputs, couple=couple))
    mask = SoftMask(model, groups, mask_norm=mask_norm)
    for group in groups:
        count = exact_count(group.size, rate)
        if count:
            scale = torch.ones(group.size)
            scale[lowest(group_scores(model, group, criterion, statistics=statistics), count)] = 0.0
            mask.set(group.name, scale)
    mask.apply()
    return mask
