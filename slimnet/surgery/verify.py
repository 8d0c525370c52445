"""Compare a slim model with the model it was cut from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from slimnet._distance import relative
from slimnet._foreign import no_exit
from slimnet._modes import flatten_outputs, output_names, stored_tolerance
from slimnet.errors import VerificationError, whole_text
from slimnet.graph import ExampleInputs, as_inputs, in_eval_mode
from slimnet.graph.recorded import SMALLER, Inputs, more_trials, taken, trials
from slimnet.surgery.copies import baked_copy, on_cpu, shared_copy, unshare
from slimnet.surgery.plan import Plan

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Check:
    """One comparison in float64: ``error`` is max |Δ| ÷ max |reference|, for inputs of ``shape``; where sizes lie far apart
    (masked scores of -1e9), the largest such among those of one kind.

    ``what`` is ``"plan"`` (the cut made in float64) or ``"stored"`` (the slim model as it is stored, in float32 as a rule, where
    constants that were folded into a bias are rounded once); ``"whole"``: the network in which a part was cut.
    ``precision`` is ``"own"`` where a model does not run in float64.
    """

    what: str
    inputs: str
    shape: tuple[int, ...]
    error: float
    precision: str = "float64"


class NotRunningError(VerificationError):
    """A slim model that does not run at all."""


class OtherSizesError(VerificationError):
    """A slim model that computes the same for the example inputs, and something else at another batch or resolution."""


class NothingToCompareError(VerificationError):
    """A model whose outputs cannot be compared with anything."""


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
    allows it, at three more resolutions: a larger one, one that divides by nothing, and a smaller one, higher than wide.

    The plan, applied to a float64 copy of the reference, must agree to ``tolerance``; the slim model as it is stored to 1e-5.
    A model that does not run in float64 is compared in its own kind of numbers, to what these allow. An exported program is run
    at the sizes that it takes. Where control flow depends on data, each example is also run by itself, with its signal stronger,
    weaker and inverted.

    Args:
        reference: the model with closed channels.
        slim: the model without them.
        example_inputs: a tensor or tuple of tensors, batch first; best real data.
        plan: how ``slim`` was cut.
        tolerance: greatest max |Δ| allowed, relative to max |reference|.

    Raises:
        VerificationError: if they differ by more, a model does not run, or gives nothing to compare (no tensors, or NaN);
            OtherSizesError, if they differ at other sizes alone.
    """
    inputs = as_inputs(example_inputs)
    try:
        return _verified(reference, slim, inputs, plan, tolerance, torch.float64)
    except _ReferenceFails:  # it may insist on the kind of numbers that it was written for
        coarse = stored_tolerance(slim)
    try:
        return _verified(reference, slim, inputs, plan, max(tolerance, coarse), None)
    except _ReferenceFails as error:
        told = f"the network itself does not run on the example inputs on the CPU: {_line(error)}"
        raise NothingToCompareError(told) from error


def whole_checks(
    reference: nn.Module, slim: nn.Module, example_inputs: ExampleInputs, *, only_runs: bool = False
) -> tuple[Check, ...]:
    """Compare a network of which a part was cut, and verified, with the one before: whether nobody else counted its channels.

    What comes after the part may choose (the best boxes), so that one bit more or less changes the answer: where every output
    of the part is verified, it is enough that the network runs.

    Args:
        reference, slim: the networks.
        example_inputs: a tensor or tuple of tensors, batch first.
        only_runs: whether another answer passes.

    Raises:
        VerificationError: if the slim network does not run, or gives another answer.
    """
    checks = []
    for dtype in (torch.float64, None):
        before, after = (on_cpu(shared_copy(model), dtype) for model in (reference, slim))
        with in_eval_mode(before, after), torch.no_grad(), _all_in(dtype):
            allowed = math.inf if only_runs else stored_tolerance(slim)
            with suppress(_ReferenceFails, NothingToCompareError):
                for name, trial, expected in _taken(before, trials(as_inputs(example_inputs), dtype)):
                    checks.append(_compare("whole", name, after, trial, expected, allowed, dtype))
        if checks:
            break
    return tuple(checks)


class _ReferenceFails(Exception):  # noqa: N818
    """The model before does not run on the example inputs."""


def _verified(
    reference: nn.Module, slim: nn.Module, inputs: tuple[Tensor, ...], plan: Plan, tolerance: float, dtype: torch.dtype | None
) -> Verification:
    """All comparisons, in float64 or (None) in the model's own kind of numbers."""
    before = unshare(on_cpu(baked_copy(reference), dtype), reference)
    exact = plan.apply(shared_copy(before))
    stored = on_cpu(shared_copy(slim), dtype)
    checks, gives = [], False
    with in_eval_mode(before, exact, stored), torch.no_grad(), _all_in(dtype):
        found = more_trials(inputs, dtype) if plan.runs else trials(inputs, dtype)
        takes = plan.graph.takes if plan.graph is not None else lambda _: True
        for name, trial, expected in _taken(before, [each for each in found if takes(each[1])]):
            gives = gives or any(value.numel() for value in expected)
            refusable = [NotRunningError] if plan.graph is not None and name == SMALLER else []  # of maps that become 1 × 1
            with _known_sizes(name, trial, inputs), suppress(*refusable):
                checks.append(_compare("plan", name, exact, trial, expected, tolerance, dtype))
                checks.append(_compare("stored", name, stored, trial, expected, stored_tolerance(slim), dtype))
    if plan.runs and not gives:
        raise NothingToCompareError(
            "the network finds nothing on any input: give an example with which its outputs hold something."
        )
    return Verification(tuple(checks))


class _Casts(TorchDispatchMode):
    """What the code of a network casts to a coarser kind of number, or makes in one, is of a finer one: else its rounding would
    be compared."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._finer = dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), dtype)
        self._finer |= dict.fromkeys((torch.complex64, torch.complex32), dtype.to_complex())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if given.get("dtype") in self._finer:
            given["dtype"] = self._finer[given["dtype"]]
        return func(*args, **given)


@contextmanager
def _all_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Let everything that networks compute be of one kind of number, whatever their code says; None: as they do."""
    if dtype is None:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with _Casts(dtype):
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _known_sizes(name: str, trial: Inputs, given: Inputs) -> Iterator[None]:
    """Tell what goes wrong at another batch or resolution than the one given from what always does."""
    try:
        yield
    except VerificationError as error:
        same = name.startswith("given") or [value.shape for value in trial] == [value.shape for value in given]
        if same:
            raise
        raise OtherSizesError(str(error)) from error


def _taken(model: nn.Module, found: Iterable[tuple[str, Inputs]]) -> Iterator[tuple[str, Inputs, list[Tensor]]]:
    """The inputs that a model takes, with what it makes of them."""
    return taken(found, lambda name, trial: expected_outputs(model, trial, given=name == "given"))


def expected_outputs(model: nn.Module, inputs: tuple[Tensor, ...], *, given: bool) -> list[Tensor] | None:
    """What the model before computes; None where it does not take these inputs, or is not defined for them."""
    try:
        with no_exit(type(model).__name__):
            expected = flatten_outputs(model(*inputs))
    except Exception as error:
        if given:
            raise _ReferenceFails(_line(error)) from error
        return None
    if given and not expected:
        raise NothingToCompareError("the network gives no tensors: nothing can be verified.")
    if any(bool(value.isnan().any()) for value in expected):
        if given:
            raise NothingToCompareError("the network itself gives NaN on the example inputs: nothing can be verified.")
        return None
    return expected


def _line(error: Exception) -> str:
    return whole_text(error)


def _compare(
    what: str,
    name: str,
    slim: nn.Module,
    inputs: tuple[Tensor, ...],
    expected: list[Tensor],
    tolerance: float,
    dtype: torch.dtype | None,
) -> Check:
    try:
        with no_exit(type(slim).__name__):
            answer = slim(*inputs)
    except Exception as error:
        raise NotRunningError(f"the slim model does not run on {name} input: {_line(error)}") from error
    found, names = flatten_outputs(answer), output_names(answer)
    if math.isinf(tolerance) and [value.shape for value in found] != [value.shape for value in expected]:
        return Check(what, name, tuple(inputs[0].shape), math.inf, "own" if dtype is None else "float64")
    if len(found) != len(expected):
        raise VerificationError(f"the slim model gives {len(found)} tensors for {name} input, not {len(expected)}.")
    worst, where = 0.0, ""
    for want, got, output in zip(expected, found, names, strict=True):
        there = f" in output {output}" if len(names) > 1 else ""
        if want.shape != got.shape:
            raise VerificationError(f"the slim model gives {tuple(got.shape)}{there} for {name} input, not {tuple(want.shape)}.")
        far = relative(want, got)
        if far > worst:
            worst, where = far, there
    if worst > tolerance:
        raise VerificationError(
            f"the slim model differs on {name} input {tuple(inputs[0].shape)}{where}: relative error {worst:.3g}, "
            f"allowed {tolerance:.3g}."
        )
    return Check(what, name, tuple(inputs[0].shape), worst, "own" if dtype is None else "float64")
