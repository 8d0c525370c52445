"""Criteria: weights or statistics in, one score a filter out. The lowest score is pruned first."""

from slimnet.criteria.branches import branch_order
from slimnet.criteria.groups import group_scores, statistics_modules
from slimnet.criteria.losses import LOSS_IMAGES, ClosedLoss, as_logits
from slimnet.criteria.scores import (
    CRITERIA,
    Criterion,
    class_separability,
    criterion_names,
    geometric_median,
    get_criterion,
    l1,
    l2,
    norm_scale,
    taylor,
)
from slimnet.criteria.selection import exact_count, lowest, magnitude_mask, select
from slimnet.criteria.statistics import ClassStatistics, collect_class_statistics
from slimnet.names import Ranking

__all__ = [
    "CRITERIA",
    "LOSS_IMAGES",
    "ClassStatistics",
    "ClosedLoss",
    "Criterion",
    "Ranking",
    "as_logits",
    "branch_order",
    "class_separability",
    "collect_class_statistics",
    "criterion_names",
    "exact_count",
    "geometric_median",
    "get_criterion",
    "group_scores",
    "l1",
    "l2",
    "lowest",
    "magnitude_mask",
    "norm_scale",
    "select",
    "statistics_modules",
    "taylor",
]
