"""Widths for a target, chosen before training begins."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from slimnet.allocation import Allocation, Budget
from slimnet.attached import check_shut, met_already, widths_for
from slimnet.criteria import LOSS_IMAGES, ClosedLoss
from slimnet.data import Dataset, calibration_batches
from slimnet.errors import ArgumentError
from slimnet.graph import ChannelGroup
from slimnet.measure.machine import cpu_model
from slimnet.progress import Say
from slimnet.training.config import TrainConfig
from slimnet.training.team import Team


def with_target(
    config: TrainConfig,
    model: nn.Module,
    example: Tensor,
    groups: Sequence[ChannelGroup],
    dataset: Dataset,
    team: Team,
    say: Say,
) -> tuple[TrainConfig, dict[str, Any] | None]:
    """The settings with the widths that their target asks for, and what is predicted of them.

    The settings are as they were, and the prediction is None, where there is no target, or widths were chosen before.

    Filters are valued by their L2 norms in the initial weights, groups by ``allocate_by``; costs are measured on this machine, by
    rank 0.

    Raises:
        ArgumentError: if the target cannot be met, the dense network meets it, or given widths close a group that is no branch.
        ExportError: if the network cannot be exported, so that it cannot be timed.
    """
    method = config.method
    for part in method.parts:
        check_shut(part, model, example, groups)
    if not config.target or method.widths:
        return config, None
    chosen, predicted = team.share(_widths(config, model, example, groups, dataset, team.device, say) if team.is_main else None)
    return replace(config, method=method.with_widths(chosen)), predicted


def _loss(model: nn.Module, dataset: Dataset, device: torch.device) -> ClosedLoss:
    """How far the answers move: of a copy on the device that training will run on, which is the fast one."""
    return ClosedLoss.of_answers(copy.deepcopy(model).to(device), calibration_batches(dataset, *LOSS_IMAGES, device=device))


def _widths(
    config: TrainConfig,
    model: nn.Module,
    example: Tensor,
    groups: Sequence[ChannelGroup],
    dataset: Dataset,
    device: torch.device,
    say: Say,
) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """The (group, channels) pairs with which the cut network meets the target, and what is predicted of it."""
    by_loss = config.allocate_by == "loss" or (config.allocate_by == "auto" and config.init is not None)
    narrower, found = widths_for(
        Budget(**config.target),
        config.method,
        model,
        example,
        groups,
        threads=config.target_threads,
        batch=config.target_batch,
        shut_branches=config.shut_branches,
        loss=_loss(model, dataset, device) if by_loss else None,
    )
    say(_summary(found))
    if not narrower:
        raise ArgumentError(f"{met_already(found)}: ask for more, or train with --method dense.")
    named = found.as_dict()
    where = {"threads": config.target_threads, "batch": config.target_batch, "cpu": cpu_model()}
    return narrower, {**{name: named[name] for name in ("target", "predicted", "layers")}, **where}


def _summary(found: Allocation) -> str:
    shut = sum(width == 0 for width in found.kept.values())
    return (
        f"target {found.budget.name} {found.budget.value:g}: {found.flops:.1%} of the FLOPs, predicted "
        f"{found.predicted_ms:.3g} ms of {found.dense_ms:.3g} ms, {found.predicted_speedup:.2f}×"
        + (f", {shut} residual branches shut" if shut else "")
        + ("" if found.loss is None else f", answers moved by {found.loss:.3g}")
    )
