"""How far one network's logits are from another's. Pure; torch is not imported here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from slimnet._distance import distance, kinds
from slimnet.errors import ExportError, ParityError

if TYPE_CHECKING:
    from torch import Tensor

    Inputs = tuple[Tensor, ...]
    Run = Callable[[Inputs], Tensor | list[Tensor]]

MODEL_REFERENCE = "model vs reference"
ONNX_MODEL = "onnx vs model"
ONNX_REFERENCE = "onnx vs reference"

DOUBLE_TOLERANCE = 1e-9
SINGLE_TOLERANCE = 1e-5
STORED_LEAST = 1e-6
"""Of a float32 network against its reference: constants that were folded into its biases are rounded once."""
RUNTIME_TOLERANCE = 1e-4
"""In float32 by other runtimes than ONNX Runtime, which multiply and add in another order (Winograd's convolutions)."""


@dataclass(frozen=True)
class ParityCheck:
    """One comparison of one output on one batch.

    Attributes:
        pair: which two networks, candidate first.
        input: ``random`` or ``real``.
        batch: samples.
        dtype: ``float64`` or ``float32``.
        max_abs: largest |Δ| of a logit.
        scale: largest |logit| of the reference on this batch (1 where all are 0); where sizes lie far apart, both are of the kind
            in which they are worst (see ``slimnet/_distance.py``).
        tolerance: what ``max_abs / scale`` may be at most.
        agreement: share of the decided samples whose largest logit is the same, in [0, 1].
        undecided: samples whose two largest reference logits are closer than 2 · tolerance · scale: rounding
            may swap these, so they do not count.
        output: name of the output, "" where there is only one.
    """

    pair: str
    input: str
    batch: int
    dtype: str
    max_abs: float
    scale: float
    tolerance: float
    agreement: float
    undecided: int
    output: str = ""

    @property
    def relative(self) -> float:
        """``max_abs / scale``."""
        return self.max_abs / self.scale

    @property
    def passed(self) -> bool:
        """Whether it is within the tolerance and every decided sample agrees."""
        return self.relative <= self.tolerance and self.agreement == 1.0

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values, with ``relative`` and ``passed``; without ``output`` where there is only one."""
        said = {name: value for name, value in asdict(self).items() if name != "output" or value}
        return {**said, "relative": self.relative, "passed": self.passed}

    def __str__(self) -> str:
        output = f", output {self.output}," if self.output else ""
        return (
            f"{self.pair}{output} on {self.input} input at batch {self.batch} ({self.dtype}): "
            f"max |Δ| {self.max_abs:.3g} at scale {self.scale:.3g}, "
            f"relative {self.relative:.3g} (at most {self.tolerance:g}), "
            f"argmax agreement {self.agreement:.2%}"
        )


@dataclass(frozen=True)
class ParityReport:
    """All comparisons of an export."""

    checks: tuple[ParityCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def pairs(self) -> tuple[str, ...]:
        """The pairs that were compared, in order."""
        return tuple(dict.fromkeys(check.pair for check in self.checks))

    @property
    def worst(self) -> ParityCheck:
        """The check nearest to its tolerance, or furthest beyond it."""
        return self.worst_of(*self.pairs)

    def worst_of(self, *pairs: str) -> ParityCheck:
        """The same among the checks of these pairs."""
        checks = [check for check in self.checks if check.pair in pairs]
        return max(checks, key=lambda check: (not check.passed, check.relative / check.tolerance))

    def require(self, hint: str = "") -> None:
        """Do nothing if all passed.

        Args:
            hint: what allows the model to be further from its reference, for the end of the error.

        Raises:
            ParityError: naming the worst check and how many failed.
        """
        failed = sum(not check.passed for check in self.checks)
        if failed:
            worst = self.worst
            more = f"; {hint} allows more" if hint and worst.pair == MODEL_REFERENCE else ""
            raise ParityError(f"{worst}; {failed} of {len(self.checks)} checks failed, nothing was written{more}.")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: the verdict, the worst check of each pair, and all checks."""
        return {
            "passed": self.passed,
            "worst": {pair: self.worst_of(pair).as_dict() for pair in self.pairs},
            "checks": [check.as_dict() for check in self.checks],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ParityReport:
        """The inverse of ``as_dict``.

        Raises:
            KeyError: if a field is missing.
        """
        names = ParityCheck.__dataclass_fields__.keys() - {"output"}
        return cls(
            tuple(
                ParityCheck(**{name: check[name] for name in names}, output=check.get("output", "")) for check in value["checks"]
            )
        )


def compare(
    reference: Run,
    candidate: Run,
    batches: Iterable[tuple[str, Inputs]],
    *,
    pair: str,
    tolerance: float,
    names: Sequence[str] = (),
) -> tuple[ParityCheck, ...]:
    """Run both networks on every batch and compare their outputs, each by itself.

    Args:
        reference: (N, …) inputs → (N, C, …) logits, or a list of outputs; what is right.
        candidate: the same; what is tested.
        batches: name of the kind of input, and the inputs.
        pair: name of the comparison.
        tolerance: largest |Δ| relative to the largest reference logit of the batch.
        names: of the outputs, where there are several; default ``output_0``, ``output_1`` …

    Returns:
        One check a batch and output. A failed check is returned, not raised.

    Raises:
        ParityError: if an output is not finite, or numbers or shapes differ: there is no distance to report.
        ExportError: if there is no output, or one is no tensor.
    """
    checks = []
    for kind, inputs in batches:
        where = f"{pair} on {kind} input at batch {len(inputs[0])}"
        expected, got = (_tensors(run(inputs), where) for run in (reference, candidate))
        if len(expected) != len(got):
            raise ParityError(f"{where}: {len(got)} outputs instead of {len(expected)}.")
        for want, have, name in zip(expected, got, _named(names, len(expected)), strict=True):
            there = f"{where}, output {name}" if name else where
            if want.shape != have.shape:
                raise ParityError(f"{there}: shape {tuple(have.shape)} instead of {tuple(want.shape)}.")
            checks.append(_compared(_finite(want, there), _finite(have, there), (pair, kind, len(inputs[0]), name), tolerance))
    return tuple(checks)


def _named(names: Sequence[str], count: int) -> Sequence[str]:
    """A name for each of several outputs; "" for one that is alone."""
    if count == 1:
        return ("",)
    return names if len(names) == count else [f"output_{number}" for number in range(count)]


def _compared(expected: Tensor, got: Tensor, what: tuple[str, str, int, str], tolerance: float) -> ParityCheck:
    """Compare finite (N, C, …) logits of one shape."""
    pair, kind, batch, output = what
    max_abs, scale = distance(expected, got)
    decided = _decided(expected, tolerance)
    same = (expected.argmax(1) == got.argmax(1))[decided] if expected.numel() else decided
    return ParityCheck(
        pair=pair,
        input=kind,
        batch=batch,
        dtype=str(expected.dtype).removeprefix("torch."),
        max_abs=max_abs,
        scale=scale,
        tolerance=tolerance,
        agreement=float(same.double().mean()) if same.numel() else 1.0,
        undecided=int((~decided).sum()),
        output=output,
    )


def _decided(expected: Tensor, tolerance: float) -> Tensor:
    """(N, …) bool, where the two largest logits are further apart than the tolerance of each."""
    if not expected.numel():
        return expected.new_zeros(0) > 0
    scales = expected.new_zeros(expected.shape)
    for of, scale in kinds(expected):
        scales[of] = scale
    top = expected.topk(min(2, expected.shape[1]), dim=1)
    return (top.values[:, 0] - top.values[:, -1]) > 2 * tolerance * scales.gather(1, top.indices).amax(1)


def _tensors(output: Any, where: str) -> list[Tensor]:
    """What a network gives, as a list.

    Raises:
        ExportError: if that is nothing, or no tensor.
    """
    outputs = output if isinstance(output, list) else [output]
    if not outputs or not all(hasattr(each, "isfinite") for each in outputs):
        got = type(outputs[0]).__name__ if outputs else "no tensor"
        raise ExportError(f"{where}: the outputs must be tensors, got {got}.")
    return outputs


def _finite(output: Tensor, where: str) -> Tensor:
    """Numbers that can be told apart, on the CPU, (N, C, …) at least.

    Raises:
        ParityError: if one is not finite.
    """
    if not bool(output.isfinite().all()):
        raise ParityError(f"{where}: an output is NaN or infinite.")
    output = output.detach().cpu()
    numbers = output if output.is_floating_point() else output.double()
    return numbers if numbers.dim() > 1 else numbers.reshape(-1, 1)
