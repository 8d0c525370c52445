"""The verb for ONNX files: remove every channel that can go, and prove it in the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slimnet._modes import flatten_outputs
from slimnet.errors import GraphError, VerificationError
from slimnet.onnx.program import Document
from slimnet.onnx.save import contents, save
from slimnet.onnx.session import open_session
from slimnet.onnx_surgery.reading import Reading, example_inputs, read_onnx
from slimnet.onnx_surgery.writing import written
from slimnet.surgery import Plan, slim
from slimnet.surgery.find import Align
from slimnet.surgery.slim import SlimReport, SlimResult, zero_small_filters
from slimnet.surgery.verify import STORED_TOLERANCE, TOLERANCE, Check, Verification

Array = NDArray[Any]
READING_TOLERANCE = 1e-4
"""How far what was read may be from what ONNX Runtime computes of the same file: operators are rounded in another order."""
FLOAT32 = 2.0**-23
"""What rounding alone does to numbers up to 1, such as those behind a softmax."""
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
        save(self.model, Path(path))


def slim_onnx(
    source: Path | str | bytes | Any,
    example_inputs: Tensor | Sequence[Tensor] | None = None,
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
    reading = read_checked(source, example_inputs, image_size=image_size)
    zeroed = zero_small_filters(reading.model, tolerance) if tolerance else 0
    result = slim(reading.model, reading.inputs, align=align)
    if zeroed:
        result = replace(result, report=replace(result.report, zeroed=zeroed))
    return finished(reading, result)


def read_checked(
    source: Path | str | bytes | Any, inputs: Tensor | Sequence[Tensor] | None = None, *, image_size: int | None = None
) -> Reading:
    """Read a file (see :func:`read_onnx`), and hold what was read against what ONNX Runtime computes of it.

    Raises:
        GraphError: if they differ by more than rounding.
    """
    reading = read_onnx(source, image_size=image_size)
    if inputs is not None:
        reading = replace(reading, inputs=(inputs,) if isinstance(inputs, Tensor) else tuple(inputs))
    with torch.no_grad():
        found = flatten_outputs(reading.model(*reading.inputs))
    shown = _as_bytes(reading, reading.document.proto)
    expected = _run(shown, reading, reading.inputs)
    for name, ours, theirs in zip(reading.model.outputs, found, expected, strict=True):
        error = relative(ours.numpy(), theirs, rounding=ROUNDING)
        if not error <= READING_TOLERANCE:
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
    model = written(reading, result.model)
    before = reading.document.proto if not result.report.zeroed else written(reading, reading.model)
    is_rounded = bool(result.plan.folds) or reading.is_coarse  # constants that went into biases are stored in float32
    checks = (*result.report.verification.checks, *_compared(reading, before, model, is_rounded=is_rounded))
    report = replace(result.report, verification=Verification(checks))
    return OnnxSlimResult(model, result.plan, report, dict(reading.model.beyond), result.model, reading)


def _compared(reading: Reading, before: Any, after: Any, *, is_rounded: bool) -> list[Check]:
    old, new = _as_bytes(reading, before), _as_bytes(reading, after)
    checks = []
    others = (("batch", reading.image_size, 3), ("size", reading.image_size + reading.image_size // 2, 1))
    declared = reading.program.inputs
    for what, inputs in (("given", reading.inputs), *((name, example_inputs(declared, *how)) for name, *how in others)):
        try:
            expected = _run(old, reading, inputs)
        except Exception:
            if what == "given":
                raise
            continue  # a file of one batch size, or of one size of pictures
        found = _run(new, reading, inputs)
        error = max(relative(one, other, rounding=FLOAT32) for one, other in zip(found, expected, strict=True))
        checks.append(_passed(Check("file", what, tuple(inputs[0].shape), error, "float32"), STORED_TOLERANCE))
    checks.append(_passed(_read_anew(reading, before, after), STORED_TOLERANCE if is_rounded else TOLERANCE))
    return checks


def _read_anew(reading: Reading, before: Any, after: Any) -> Check:
    """Both files, read, in float64."""
    inputs = tuple(value.double() if value.is_floating_point() else value for value in reading.inputs)
    outputs = []
    for proto in (before, after):
        network = read_onnx(proto, image_size=reading.image_size).model.double()
        with torch.no_grad():
            outputs.append(dict(zip(network.outputs, flatten_outputs(network(*inputs)), strict=True)))
    error = max(relative(outputs[1][name].numpy(), value.numpy()) for name, value in outputs[0].items())
    return Check("float64", "given", tuple(inputs[0].shape), error)


def _passed(check: Check, tolerance: float) -> Check:
    if not check.error <= tolerance:
        raise VerificationError(
            f"the slim file computes something else: {check.error:.1e} (relative, {check.precision}, {check.inputs} inputs), at "
            f"most {tolerance:.0e} is allowed."
        )
    return check


def relative(found: Array, expected: Array, *, rounding: float = 0.0) -> float:
    """Largest |Δ| over the largest |expected|; equal infinities and NaNs count as equal. NaN where shapes differ.

    ``rounding``: what |Δ| may be without counting.
    """
    if found.shape != expected.shape:
        return float("nan")
    if not expected.size:
        return 0.0
    left, right = found.astype(np.float64), expected.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        differences = np.where(same, 0.0, np.abs(left - right))
    differences[differences <= rounding] = 0.0
    scale = np.abs(right[np.isfinite(right)]).max(initial=0.0)
    return float(differences.max() / (scale or 1.0))


def _as_bytes(reading: Reading, proto: Any) -> bytes:
    """With what the module gives as outputs too."""
    return contents(proto, outputs=reading.model.outputs)


def _run(data: bytes, reading: Reading, inputs: Sequence[Tensor]) -> list[Array]:
    session = open_session(data, name=reading.document.name, threads=1, is_checked=True)
    feed = {each.name: value.numpy() for each, value in zip(reading.program.inputs, inputs, strict=True)}
    return session.run(feed, list(reading.model.outputs))
