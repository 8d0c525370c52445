"""Widths for a target, of a network and a method."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from slimnet.allocation import Allocation, Budget, branches_of, fit_widths, network_layers
from slimnet.criteria import ClosedLoss, group_scores
from slimnet.errors import ArgumentError
from slimnet.graph import ChannelGroup
from slimnet.methods import Method

CRITERION = "l2"


def check_target(method: Method) -> None:
    """Refuse a target for a method that takes no widths, or for streams that are not coupled.

    Raises:
        ArgumentError: if it is one.
    """
    if not method.takes_widths:
        raise ArgumentError(f"`target` needs a soft filter method, such as fsdp; {method.name} finds its own widths or none.")
    if method.couple != "stream":
        raise ArgumentError("`target` needs coupled streams: `couple` is 'none' (which `faithful` sets too).")


def refuse_widths(method: Method) -> None:
    """Refuse widths beside a target that has chosen none yet.

    Raises:
        ArgumentError: if the method has any.
    """
    if method.widths:
        raise ArgumentError("give either a `target` or a method with `widths`: a target chooses them.")


def check_shut(method: Method, model: nn.Module, example: Tensor, groups: Sequence[ChannelGroup]) -> None:
    """Refuse a width of 0 where no other way leads past the group.

    Raises:
        ArgumentError: naming the group.
    """
    shut = [name for name, width in method.widths if width == 0]
    if shut and not method.mask_norm:
        raise ArgumentError(f"`widths` closes {shut[0]!r} whole, which needs norms that close with it: leave `mask_norm` on.")
    branches = branches_of(network_layers(model, example, groups)) if shut else ()
    for name in shut:
        if name not in branches:
            known = ", ".join(branches) or "none here"
            raise ArgumentError(f"`widths` closes {name!r} whole, which only groups inside a residual branch may: {known}.")


def widths_for(
    budget: Budget,
    method: Method,
    model: nn.Module,
    example: Tensor,
    groups: Sequence[ChannelGroup],
    *,
    threads: int = 1,
    batch: int = 1,
    shut_branches: bool = False,
    loss: ClosedLoss | None = None,
) -> tuple[list[tuple[str, int]], Allocation]:
    """The (group, channels) pairs of groups that shrink so that the cut network meets a budget, and all that is predicted of it.

    Filters are valued by their L2 norms; there is no pair where the dense network meets the budget.

    Args:
        budget: the target.
        method: whose groups may shrink.
        model: the network, on the CPU; left as it was.
        example: images (N, C, H, W), N at least 2.
        groups: its channel groups.
        threads, batch: of the ONNX Runtime session that the target is for.
        shut_branches: let residual branches go as a whole.
        loss: of the network on training images, to value groups by.

    Raises:
        ArgumentError: if the target cannot be met.
        ExportError: if the network cannot be exported, so that it cannot be timed.
    """
    scores = {group.name: group_scores(model, group, CRITERION) for group in method.chosen_groups(model, groups)}
    found = fit_widths(
        model, example, groups, scores, budget, threads=threads, batch=batch, shut_branches=shut_branches, loss=loss
    )
    return [(name, width) for name, width in found.kept.items() if width < len(scores[name])], found


def met_already(found: Allocation) -> str:
    """What is said where the dense network meets the target."""
    return f"the dense network meets the target {found.budget.name} {found.budget.value:g} already ({found.dense_ms:.3g} ms)"
