"""The verb for ONNX files: remove every channel that can go, and prove it in the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slimnet import _distance
from slimnet._modes import STORED_TOLERANCE, flatten_outputs
from slimnet.errors import ArgumentError, GraphError, MeasureError, VerificationError
from slimnet.graph import as_inputs
from slimnet.onnx.rewrite import rewritten
from slimnet.onnx.save import contents, save
from slimnet.onnx.session import open_session
from slimnet.onnx_surgery.reading import Reading, random_inputs, read_onnx
from slimnet.onnx_surgery.writing import changes_of, written
from slimnet.surgery import Plan
from slimnet.surgery import slim as slim_module
from slimnet.surgery.copies import baked_copy
from slimnet.surgery.slim import SlimReport, SlimResult, check_tolerance, zero_small_filters
from slimnet.surgery.verify import TOLERANCE, Check, Verification

if TYPE_CHECKING:
    from slimnet.graph import ExampleInputs
    from slimnet.onnx.program import OnnxModel
    from slimnet.surgery.find import Align

Array = NDArray[Any]
READING_TOLERANCE = 1e-4
"""How far what was read may be from what ONNX Runtime computes of the same file: operators are rounded in another order."""
FLOAT32 = 2.0**-22
"""What rounding alone does to numbers up to 1, such as those behind a sigmoid, in two networks."""
ROUNDING = 1e-6
"""Of outputs that are tiny: a sigmoid in float32 is right to so much, however small what it gives."""


@dataclass(frozen=True, eq=False)
class OnnxSlimResult:
    """A slim ONNX file, the plan that made it, and what was checked.

    Attributes:
        model: the ``onnx.ModelProto``.
        plan: of the module that was read from the file.
        report: as of :func:`slimnet.slim`; its checks of ``"file"`` compare both files in ONNX Runtime (float32), and of
            ``"float64"`` both files read anew.
        beyond: nodes that were not followed → why; they, and what lies behind them, are as they were.
        network: the slim module, for figures.
        reading: the file that it was made of.
    """

    model: Any
    plan: Plan
    report: SlimReport
    beyond: Mapping[str, str]
    network: nn.Module
    reading: Reading

    def save(self, path: Path | str) -> None:
        """Write the file: whole, or not at all; all of its weights are in it.

        Raises:
            ExportError: if it is not valid ONNX.
            WriteError: if it cannot be written.
        """
        save(self.model, Path(path), before=self.reading.document.proto)


@overload
def slim(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    align: Align = None,
    optimizer: torch.optim.Optimizer | None = None,
    expand: bool = False,
    tolerance: float = 0.0,
    part: str | None = None,
) -> SlimResult: ...


@overload
def slim(
    model: Path | str | bytes | OnnxModel,
    example_inputs: ExampleInputs | None = None,
    *,
    align: Align = None,
    tolerance: float = 0.0,
    image_size: int | None = None,
) -> OnnxSlimResult: ...


def slim(model: Any, example_inputs: ExampleInputs | None = None, **options: Any) -> SlimResult | OnnxSlimResult:
    """Remove, exactly, every channel that does not matter to the output: of a module, or of an ONNX file.

    Args:
        model: a module, see :func:`slimnet.surgery.slim`; or an ONNX file (path, bytes or ``onnx.ModelProto``), see
            :func:`slimnet.onnx_surgery.slim_onnx`.
        example_inputs: a tensor or tuple of tensors, batch first; an ONNX file declares them, a module does not.
        **options: of that function.

    Raises:
        ArgumentError: if a module comes without example inputs, or a value is out of its range.
        SlimnetError: see both.
    """
    if not isinstance(model, nn.Module):
        return slim_onnx(model, example_inputs, **options)
    if example_inputs is None:
        raise ArgumentError("`example_inputs` is missing: a module does not say what it takes.")
    return slim_module(model, example_inputs, **options)


def slim_onnx(
    source: Path | str | bytes | OnnxModel,
    example_inputs: ExampleInputs | None = None,
    *,
    align: Align = None,
    tolerance: float = 0.0,
    image_size: int | None = None,
) -> OnnxSlimResult:
    """Remove, exactly, every channel of an ONNX file that does not matter to its outputs, whatever left the zeros.

    Args:
        source: the file, its content, or an ``onnx.ModelProto``; it is left as it was.
        example_inputs: a tensor for each input, best real data; None: random, of the shapes that the file declares.
        align, tolerance: see :func:`slimnet.slim`.
        image_size: sides of pictures where the file leaves them open; default 224.

    Returns:
        The slim file (same names, opset, metadata, inputs and outputs), the plan, and the report.

    Raises:
        FileFormatError: if it is no ONNX file.
        GraphError: if it is quantised, cannot be followed, or is read as something else than ONNX Runtime computes.
        VerificationError: if the slim file computes something else; nothing is returned.
    """
    check_tolerance(tolerance)
    reading = read_checked(source, example_inputs, image_size=image_size)
    reading, zeroed = without_small_filters(reading, tolerance)
    result = slim_module(reading.model, reading.inputs, align=align)
    return finished(reading, replace(result, report=replace(result.report, zeroed=zeroed)))


def without_small_filters(reading: Reading, tolerance: float) -> tuple[Reading, int]:
    """The file with filters of at most this share of the largest norm zeroed, read anew; and how many there were."""
    masked = baked_copy(reading.model)
    zeroed = zero_small_filters(masked, tolerance) if tolerance else 0
    if not zeroed:
        return reading, 0
    return read_onnx(written(reading, masked), reading.inputs, name=reading.document.name), zeroed


def read_checked(
    source: Path | str | bytes | OnnxModel, inputs: ExampleInputs | None = None, *, image_size: int | None = None
) -> Reading:
    """Read a file (see :func:`read_onnx`), and hold what was read against what ONNX Runtime computes of it.

    Raises:
        GraphError: if they differ by more than rounding.
    """
    reading = read_onnx(source, None if inputs is None else as_inputs(inputs), image_size=image_size)
    tolerance = max(READING_TOLERANCE, 16 * torch.finfo(torch.float16).eps if reading.is_coarse else 0.0)
    with torch.no_grad():
        found = flatten_outputs(reading.model(*reading.inputs))
    shown = _as_bytes(reading, reading.document.proto)
    expected = _run(shown, reading, reading.inputs)
    for name, ours, theirs in zip(reading.model.outputs, found, expected, strict=True):
        error = relative(ours.numpy(), theirs, rounding=ROUNDING)
        if not error <= tolerance:
            raise GraphError(
                f"{reading.document.name} was read wrongly: {name!r} differs by {error:.1e} (relative) from what ONNX Runtime "
                "computes. Nothing is cut; please report the file."
            )
    return reading


def finished(reading: Reading, result: SlimResult) -> OnnxSlimResult:
    """Write what surgery did to the module into the file, and compare both files.

    Raises:
        VerificationError: if they differ.
    """
    changed = changes_of(reading, result.model)
    model = rewritten(reading.document, changed)
    # constants that went into biases, and what was multiplied, are rounded to float32 once more
    is_rounded = bool(result.plan.folds or changed.attributes or reading.is_coarse or reading.is_rounded)
    checks = (*result.report.verification.checks, *_compared(reading, reading.document.proto, model, is_rounded=is_rounded))
    report = replace(result.report, verification=Verification(checks))
    return OnnxSlimResult(model, result.plan, report, dict(reading.model.beyond), result.model, reading)


def _compared(reading: Reading, before: Any, after: Any, *, is_rounded: bool) -> list[Check]:
    """Both files in ONNX Runtime, and both read anew."""
    old, new = _as_bytes(reading, before), _as_bytes(reading, after)
    exact = _in_float64(reading, before)
    noise = _worst(_run(old, reading, reading.inputs), [exact[name] for name in reading.model.outputs])
    checks = []
    for what, inputs in _trials(reading):
        try:
            expected = _run(old, reading, inputs)
        except MeasureError:
            if what == "given":
                raise
            continue  # a file of one batch size, or of one size of pictures
        error = _worst(_run(new, reading, inputs), expected)
        # a deep network's own rounding in float32 may be more than the tolerance
        checks.append(_passed(Check("file", what, tuple(inputs[0].shape), error, "float32"), max(STORED_TOLERANCE, 2 * noise)))
    again = _in_float64(reading, after)
    error = max(relative(again[name], value) for name, value in exact.items())
    check = Check("float64", "given", tuple(reading.inputs[0].shape), error)
    return [*checks, _passed(check, STORED_TOLERANCE if is_rounded else TOLERANCE)]


def _trials(reading: Reading) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """The inputs, another batch, another size of pictures, and one that divides by nothing, where graphs pad to a multiple."""
    shapes = [tuple(value.shape) for value in reading.inputs]
    yield "given", reading.inputs
    yield "batch", random_inputs(reading.program.inputs, [(3, *shape[1:]) for shape in shapes])
    if not any(shape[2:] for shape in shapes):
        return
    yield "size", random_inputs(reading.program.inputs, [(*shape[:2], *(n + n // 2 for n in shape[2:])) for shape in shapes])
    uneven = [(*shape[:2], *(n + more for n, more in zip(shape[2:], cycle((3, 5))))) for shape in shapes]
    yield "uneven size", random_inputs(reading.program.inputs, uneven)


def _worst(found: Sequence[Array], expected: Sequence[Array]) -> float:
    return max(relative(one, other, rounding=FLOAT32) for one, other in zip(found, expected, strict=True))


def _in_float64(reading: Reading, proto: Any) -> dict[str, Array]:
    """The outputs of a file, read anew, in float64."""
    inputs = tuple(value.double() if value.is_floating_point() else value for value in reading.inputs)
    network = read_onnx(proto, reading.inputs).model.double()
    with torch.no_grad():
        return {name: value.numpy() for name, value in network.run(inputs).items()}


def _passed(check: Check, tolerance: float) -> Check:
    if not check.error <= tolerance:
        raise VerificationError(
            f"the slim file computes something else: {check.error:.1e} (relative, {check.precision}, {check.inputs} inputs), at "
            f"most {tolerance:.0e} is allowed."
        )
    return check


def relative(found: Array, expected: Array, *, rounding: float = 0.0) -> float:
    """As :func:`slimnet._distance.relative`, of what runtimes give. NaN where shapes differ."""
    if found.shape != expected.shape:
        return float("nan")
    return _distance.relative(torch.from_numpy(expected), torch.from_numpy(found), rounding=rounding)


def _as_bytes(reading: Reading, proto: Any) -> bytes:
    """With what the module gives as outputs too."""
    return contents(proto, outputs=reading.model.outputs)


def _run(data: bytes, reading: Reading, inputs: Sequence[Tensor]) -> list[Array]:
    session = open_session(data, name=reading.document.name, threads=1, is_checked=True)
    feed = {each.name: value.numpy() for each, value in zip(reading.program.inputs, inputs, strict=True)}
    return session.run(feed, list(reading.model.outputs))
