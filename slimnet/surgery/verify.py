"""Compare a slim model with the model it was cut from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from slimnet.errors import VerificationError
from slimnet.graph import ExampleInputs, as_inputs, in_eval_mode
from slimnet.surgery.bake import baked_copy, shared_copy
from slimnet.surgery.plan import Plan

TOLERANCE = 1e-9
STORED_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Check:
    """One comparison in float64: ``error`` is max |Δ| ÷ max |reference|, for inputs of ``shape``.

    ``what`` is ``"plan"`` (the cut made in float64) or ``"stored"`` (the slim model as it is stored, in float32 as a rule, where
    constants that were folded into a bias are rounded once).
    """

    what: str
    inputs: str
    shape: tuple[int, ...]
    error: float


@dataclass(frozen=True)
class Verification:
    """All comparisons of one slim model."""

    checks: tuple[Check, ...]

    @property
    def worst(self) -> float:
        """The largest relative error of the plan."""
        return max((check.error for check in self.checks if check.what == "plan"), default=0.0)

    @property
    def worst_stored(self) -> float:
        """The largest relative error of the slim model as it is stored."""
        return max((check.error for check in self.checks if check.what == "stored"), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        head = {"tolerance": TOLERANCE, "worst": self.worst, "worst_stored": self.worst_stored}
        return {**head, "checks": [asdict(check) for check in self.checks]}


def verify(
    reference: nn.Module, slim: nn.Module, example_inputs: ExampleInputs, *, plan: Plan, tolerance: float = TOLERANCE
) -> Verification:
    """Run models in float64 and eval mode on the example inputs and on random ones, at two batch sizes and, where the model
    allows it, at a second resolution.

    The plan, applied to a float64 copy of the reference, must agree to ``tolerance``; the slim model as it is stored to 1e-5.

    Args:
        reference: the model with closed channels.
        slim: the model without them.
        example_inputs: a tensor or tuple of tensors, batch first; best real data.
        plan: how ``slim`` was cut.
        tolerance: greatest max |Δ| allowed, relative to max |reference|.

    Raises:
        VerificationError: if they differ by more, or the slim model does not run.
    """
    before = baked_copy(reference).to("cpu", torch.float64)
    exact = plan.apply(shared_copy(before))
    stored = shared_copy(slim).to("cpu", torch.float64)
    checks = []
    with in_eval_mode(before, exact, stored), torch.no_grad():
        for name, inputs in _trials(as_inputs(example_inputs)):
            try:
                expected = flatten_outputs(before(*inputs))
            except Exception:
                if name == "given":
                    raise
                continue  # the model itself does not take this batch size or resolution
            checks.append(_compare("plan", name, exact, inputs, expected, tolerance))
            checks.append(_compare("stored", name, stored, inputs, expected, STORED_TOLERANCE))
    return Verification(tuple(checks))


def _compare(
    what: str, name: str, slim: nn.Module, inputs: tuple[Tensor, ...], expected: list[Tensor], tolerance: float
) -> Check:
    try:
        found = flatten_outputs(slim(*inputs))
    except Exception as error:
        raise VerificationError(f"the slim model does not run on {name} input: {error}") from error
    worst = 0.0
    for want, got in zip(expected, found, strict=True):
        if want.shape != got.shape:
            raise VerificationError(f"the slim model gives {tuple(got.shape)} for {name} input, not {tuple(want.shape)}.")
        scale = float(want.abs().max()) or 1.0
        difference = float((want - got).abs().max()) / scale if want.numel() else 0.0
        worst = max(worst, math.inf if math.isnan(difference) else difference)
    if worst > tolerance:
        raise VerificationError(
            f"the slim model differs on {name} input {tuple(inputs[0].shape)}: relative error {worst:.3g}, "
            f"allowed {tolerance:.3g}."
        )
    return Check(what, name, tuple(inputs[0].shape), worst)


def _trials(inputs: tuple[Tensor, ...]) -> Sequence[tuple[str, tuple[Tensor, ...]]]:
    """The inputs given, random ones at batch 1 and 3, and random ones at a larger resolution."""
    generator = torch.Generator().manual_seed(0)
    given = tuple(value.detach().to("cpu", torch.float64) if value.is_floating_point() else value.cpu() for value in inputs)

    def random(batch: int, grow: int) -> tuple[Tensor, ...]:
        result = []
        for value in given:
            shape = [batch, *value.shape[1:]]
            if value.dim() == 4:
                shape[2:] = [size + grow for size in shape[2:]]
            made = torch.randn(shape, generator=generator, dtype=torch.float64)
            result.append(made if value.is_floating_point() else value[:1].expand(shape).clone())
        return tuple(result)

    trials = [("given", given), ("random", random(1, 0)), ("random", random(3, 0))]
    if any(value.dim() == 4 for value in given):
        trials.append(("random, larger", random(2, 8 if min(given[0].shape[-2:]) < 64 else 32)))
    return trials


def flatten_outputs(value: Any) -> list[Tensor]:
    """All tensors in a model's output, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in flatten_outputs(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in flatten_outputs(item)]
    return []
