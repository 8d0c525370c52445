"""The verb: remove every channel that can go."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from slimnet.errors import ArgumentError, SurgeryError, VerificationError
from slimnet.graph import ExampleInputs
from slimnet.surgery.bake import baked_copy, shared_copy, unshare
from slimnet.surgery.cut import apply_plan
from slimnet.surgery.optimizer import move_optimizer
from slimnet.surgery.plan import Plan
from slimnet.surgery.planning import make_plan
from slimnet.surgery.verify import Verification, verify


@dataclass(frozen=True)
class SlimReport:
    """What surgery did.

    Attributes:
        verification: the comparison with the model before.
        params_before, params_after: numbers of parameters.
        closed, removed: channels with zero filters in all their layers; channels removed.
        zeroed: filters that were zeroed first, for being within the tolerance.
        seconds: analysis and cut; ``verify_seconds``: the comparison.
    """

    verification: Verification
    params_before: int
    params_after: int
    closed: int
    removed: int
    zeroed: int
    seconds: float
    verify_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.__dict__, "verification": self.verification.as_dict()}


@dataclass(frozen=True, eq=False)
class SlimResult:
    """A slim model, the plan that made it, and what was checked."""

    model: nn.Module
    plan: Plan
    report: SlimReport


def slim(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    align: int | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    expand: bool = False,
    tolerance: float = 0.0,
) -> SlimResult:
    """Remove, exactly, every channel that does not matter to the output, whatever left the zeros.

    Args:
        model: any module that ``torch.export`` can follow; it is left as it was.
        example_inputs: a tensor or tuple of tensors, batch first; best real data, on which the result is verified.
        align: keep closed channels so that each group has a multiple of this many; None keeps none.
        optimizer: taken along, in place: it then holds the parameters and the state of the slim model.
        expand: where only some of the layers that add to a stream have closed a channel, compute the live rows only and put
            constants in between (concatenate and gather).
        tolerance: filters whose norm is at most this share of the largest in their layer count as zero: they are zeroed first,
            and the result is exact with respect to that.

    Returns:
        The slim model (a plain module of the same classes, without masks and hooks), the plan, and the report.

    Raises:
        ArgumentError: if ``align`` is not positive or ``tolerance`` not in [0, 1).
        GraphError: if the model cannot be analysed.
        VerificationError: if the slim model computes something else in float64; nothing is returned.
    """
    if align is not None and align < 1:
        raise ArgumentError(f"`align` must be a positive number of channels, got {align}.")
    if not 0 <= tolerance < 1:
        raise ArgumentError(f"`tolerance` must be in [0, 1), got {tolerance}.")
    start = time.perf_counter()
    masked = baked_copy(model)
    zeroed = zero_small_filters(masked, tolerance) if tolerance else 0
    plan = make_plan(masked, example_inputs, align=align, expand=expand)
    small = shared_copy(masked)
    apply_plan(plan, small)
    unshare(small, model)
    cut_done = time.perf_counter()
    verification = _verified(masked, small, example_inputs, plan)
    done = time.perf_counter()
    if optimizer is not None:
        move_optimizer(optimizer, model, small, plan)
    report = SlimReport(
        verification=verification,
        params_before=_size(model),
        params_after=_size(small),
        closed=sum(group.closed for group in plan.groups),
        removed=sum(group.size - len(group.kept) for group in plan.groups),
        zeroed=zeroed,
        seconds=cut_done - start,
        verify_seconds=done - cut_done,
    )
    return SlimResult(small, plan, report)


def zero_small_filters(model: nn.Module, tolerance: float) -> int:
    """Zero, in new memory, every filter whose L2 norm is at most ``tolerance`` times the largest of its layer; how many."""
    zeroed = 0
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear) and module.weight.numel():
            weight = module.weight.data.clone()
            rows = weight.movedim(1, 0) if isinstance(module, nn.modules.conv._ConvTransposeNd) else weight
            norms = rows.flatten(1).norm(dim=1)
            small = (norms <= tolerance * norms.max()) & (norms > 0)
            rows[small] = 0
            module.weight.data = weight
            zeroed += int(small.sum())
    return zeroed


def _verified(masked: nn.Module, small: nn.Module, example_inputs: ExampleInputs, plan: Plan) -> Verification:
    """Verify; on failure, find the group at fault by bisection and name it."""
    try:
        return verify(masked, small, example_inputs, plan=plan)
    except VerificationError as error:
        suspects = [group.name for group in plan.groups if len(group.kept) < group.size]
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            suspects = half if _fails(masked, example_inputs, half) else suspects[len(suspects) // 2 :]
        if suspects and _fails(masked, example_inputs, suspects):
            raise VerificationError(f"group {suspects[0]!r} cannot be cut: {error}") from error
        raise


def _fails(masked: nn.Module, example_inputs: ExampleInputs, only: list[str]) -> bool:
    plan = make_plan(masked, example_inputs, only=only)
    try:
        verify(masked, plan.apply(shared_copy(masked)), example_inputs, plan=plan)
    except (VerificationError, SurgeryError):
        return True
    return False


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
