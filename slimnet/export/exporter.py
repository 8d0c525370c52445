"""One-file ONNX that computes what the model does, or no file at all. The façade over torch's exporter."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slimnet._foreign import no_exit, no_logs
from slimnet._modes import output_names as names_of_outputs
from slimnet._modes import unwrapped, with_flat_outputs
from slimnet.errors import ArgumentError, ExportError, SlimnetWarning
from slimnet.export.gate import Examples, check_onnx, check_reference, reference_tolerance
from slimnet.export.parity import ONNX_MODEL, ONNX_REFERENCE, ParityReport
from slimnet.export.steps import Pace, StepReport, check_mode, optimise_graph
from slimnet.files import write_bytes
from slimnet.names import Mode
from slimnet.onnx.naming import name_by_module
from slimnet.onnx.opset import OLDEST_NATIVE, chosen_opset, first_line, with_opset
from slimnet.onnx.write import in_opset, write
from slimnet.parts import catch_part
from slimnet.progress import Task


@dataclass(frozen=True)
class Exported:
    """A network as ONNX.

    Attributes:
        data: the bytes of a file that has passed the gate.
        parity: of these bytes with the network.
        steps: what was done to the graph for speed.
    """

    data: bytes
    parity: ParityReport
    steps: StepReport


_NOISY = ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir")


def export_onnx(
    model: nn.Module,
    example_inputs: Tensor | tuple[Tensor, ...],
    path: Path | str,
    *,
    opset: int | None = None,
    reference: nn.Module | None = None,
    inputs: Sequence[Tensor | tuple[Tensor, ...]] = (),
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    tolerance: float | None = None,
    optimise: Mode = "safe",
    part: str | None = None,
) -> ParityReport:
    """Export a network as one ONNX file, and write it only if it computes the same.

    The gate compares ONNX Runtime with the model (in float32, to 1e-5 of the largest number of each output; a float16 network to
    16 · ε) and, where ``reference`` is another network, the model with it (in float64) and ONNX Runtime with it: on random
    and on the given real input, at batch 1, 2 and 7, each output by itself. Neither network is changed: copies are exported and
    run, in evaluation mode, on the CPU. ONNX Runtime's CPU kernels know no bfloat16: such a network is exported in float32, which
    holds the same weights, and a warning says so.

    Args:
        model: gives a tensor, or several in a tuple, a list, a mapping, a dataclass, or these in one another. What
            ``torch.compile``, DataParallel or DistributedDataParallel wrap is taken out.
        example_inputs: (N, …) tensor, or one for each input; dimension 0 becomes the dynamic batch.
        path: of the file; its folder is created.
        opset: of the file, from 11. Default: 20. Below 18 it is written from that, behind the steps; the gate sees the result.
        reference: what the model must agree with, e.g. the masked network that it was cut from.
        inputs: real batches, each like ``example_inputs``; the more samples, the better.
        input_names: default ``input``, or ``input_0``, ``input_1`` … where there are several.
        output_names: default ``logits``; where there are several, what holds them names them: keys of a mapping, fields of a
            dataclass (``boxes``, ``features.0``), or ``output_0``, ``output_1`` … in a list.
        metadata: key → value, stored in the file. Not readable in onnxruntime-web.
        tolerance: of the model against the reference, relative. Default: by the type in which the model is stored, 1e-9 in
            float64, 1e-6 in float32, where constants that surgery folded into biases are rounded once, 16 · ε in float16 and
            bfloat16. The plan itself is verified to 1e-9.
        optimise: the steps that make the graph faster, see :func:`slimnet.export.steps.optimise_graph`: ``none``; ``safe``,
            those that only take work away; ``measured``, all, each timed and kept only if it pays on this machine.
        part: submodules by name, joined by ``+``, that alone are exported, with all that leaves them: see :func:`slimnet.slim`.

    Returns:
        What was compared, and how far apart it was.

    Raises:
        ArgumentError: if ``opset``, names or inputs do not fit, or an input is not finite.
        ExportError: if the network cannot be exported, or not with this opset.
        ParityError: if a comparison fails. Nothing is written.
    """
    if part is not None:
        model, reference, example_inputs, inputs = _of_part(part, model, reference, example_inputs, inputs)
    data, report = build_onnx(
        model,
        Examples.of(example_inputs, inputs),
        opset=opset,
        reference=reference,
        input_names=input_names,
        output_names=output_names,
        metadata=metadata,
        tolerance=tolerance,
        optimise=optimise,
        hint="`tolerance`",
    )
    write_bytes(Path(path), data, parents=True)
    return report


def _of_part(
    part: str,
    model: nn.Module,
    reference: nn.Module | None,
    example_inputs: Tensor | tuple[Tensor, ...],
    inputs: Sequence[Tensor | tuple[Tensor, ...]],
) -> tuple[nn.Module, nn.Module | None, tuple[Tensor, ...], list[tuple[Tensor, ...]]]:
    """The part of each network, and what it is given where the whole is given the inputs."""
    caught = catch_part(model, example_inputs, part)
    right = None if reference is None else catch_part(reference, example_inputs, part).module
    return caught.module, right, caught.inputs, [catch_part(model, batch, part).inputs for batch in inputs]


def build_onnx(model: nn.Module, examples: Examples, **options: Any) -> tuple[bytes, ParityReport]:
    """The same as ``export_onnx``, in memory.

    Args:
        model, examples: what to export, and with what to compare it.
        **options: of :func:`build`.

    Returns:
        The bytes of a file that has passed the gate, and the report.
    """
    exported = build(model, examples, **options)
    return exported.data, exported.parity


def build(
    model: nn.Module,
    examples: Examples,
    *,
    opset: int | None = None,
    reference: nn.Module | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    tolerance: float | None = None,
    optimise: Mode = "safe",
    pace: Pace | None = None,
    hint: str = "",
) -> Exported:
    """The same as ``export_onnx``, in memory, with an account of the steps taken on the graph.

    Args:
        model, examples: what to export, and with what to compare it.
        opset, reference, input_names, output_names, metadata, tolerance, optimise: see :func:`export_onnx`.
        pace: how ``measured`` steps are timed; default: one thread, one real image.
        hint: what the caller can set to let the model be further from the reference, for an error.
    """
    check_mode(optimise)
    opset = chosen_opset(opset)
    names = _input_names(input_names, len(examples.example))
    tolerance = reference_tolerance(model) if tolerance is None else tolerance
    model, examples, reference = _opened(model, examples, reference)
    outputs = _output_names(output_names, model, examples)
    before, networks = ParityReport(()), {ONNX_MODEL: model}
    with Task("exporting", 3) as task:  # compare, export, make faster and compare
        if reference is not None and reference is not model:
            before = check_reference(model, reference, examples, tolerance=tolerance, names=outputs)
            networks[ONNX_REFERENCE] = reference
        before.require(hint)
        task.advance()
        native = max(opset, OLDEST_NATIVE)
        proto = with_opset(_export(model, examples, native, names, outputs), native)
        written = write(proto, metadata=metadata or {}, name="the exported network")
        task.advance()

        @functools.cache
        def gate(data: bytes) -> ParityReport:
            return check_onnx(data, networks, examples)

        samples = examples.example if examples.real is None else examples.real
        inputs = {name: tensor.numpy() for name, tensor in zip(names, samples, strict=True)}
        data, steps = optimise_graph(written, gate, optimise, pace=pace or Pace(inputs=inputs))
        data = in_opset(data, opset)
    report = ParityReport((*before.checks, *gate(data).checks))
    report.require(hint)
    return Exported(data, report, steps)


def _export(model: nn.Module, examples: Examples, opset: int, names: list[str], outputs: list[str]) -> Any:
    """What torch's exporter makes of a copy, with a dynamic batch: a ``ModelProto``."""
    batch, copy = torch.export.Dim("batch"), deepcopy(model).cpu().eval()
    try:
        with _quiet(), torch.no_grad(), no_exit(type(model).__name__), with_flat_outputs(copy):
            program = torch.onnx.export(
                copy,
                examples.rows(2),
                dynamo=True,
                external_data=False,
                opset_version=opset,
                dynamic_shapes=_as_taken(copy, [{0: batch} for _ in names]),
                input_names=names,
                output_names=outputs,
                verbose=False,
            )
            if program is None:
                raise ExportError("torch.onnx.export returned nothing.")
            proto = program.model_proto
            name_by_module(proto)
            return proto
    except Exception as error:  # the exporter's errors share no base class
        raise _refusal(model, error) from error


def _as_taken(model: nn.Module, shapes: list[Any]) -> tuple[Any, ...]:
    """One for each argument of the forward pass: those that ``*inputs`` takes are one tuple."""
    kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(shapes)
    first = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:first], tuple(shapes[first:])) if len(shapes) > first else tuple(shapes)


def _refusal(model: nn.Module, error: Exception) -> ExportError:
    text = first_line(error).partition(" (unhinted")[0]  # torch's longer form of an expression
    return ExportError(f"{type(model).__name__} cannot be exported to ONNX: {text}")


def _opened(model: nn.Module, examples: Examples, reference: nn.Module | None) -> tuple[nn.Module, Examples, nn.Module | None]:
    """The networks inside their wrappers; in float32 where the model is stored in bfloat16."""
    model, reference = unwrapped(model), None if reference is None else unwrapped(reference)
    if all(parameter.dtype != torch.bfloat16 for parameter in model.parameters()):
        return model, examples, reference
    warnings.warn(
        f"{type(model).__name__} is stored in bfloat16, which ONNX Runtime's CPU kernels do not know: it is exported in float32, "
        "with the same weights.",
        SlimnetWarning,
        stacklevel=4,
    )
    return deepcopy(model).float(), examples.widened(), reference


def _input_names(names: Sequence[str] | None, count: int) -> list[str]:
    default = ["input"] if count == 1 else [f"input_{i}" for i in range(count)]
    chosen = default if names is None else list(names)
    if len(chosen) != count or len(set(chosen)) != count:
        raise ArgumentError(f"`input_names` must be {count} different names, got {chosen}.")
    return chosen


def _output_names(names: Sequence[str] | None, model: nn.Module, examples: Examples) -> list[str]:
    """As they were asked for, or after what holds the outputs."""
    copy = deepcopy(model).cpu().eval()
    try:
        with _quiet(), torch.no_grad(), no_exit(type(model).__name__):
            own = names_of_outputs(copy(*examples.rows(2)))
    except Exception as error:
        raise _refusal(model, error) from error
    if not own:
        raise ExportError(f"{type(model).__name__} cannot be exported to ONNX: it gives no tensors.")
    chosen = own if names is None else list(names)
    if len(chosen) != len(own) or len(set(chosen)) != len(own):
        raise ArgumentError(f"`output_names` must be {len(own)} different names, got {chosen}.")
    return chosen


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, no log lines, nothing on stdout and no graphs on stderr from the exporter; its errors still rise."""
    nowhere = io.StringIO()
    with (
        no_logs(*_NOISY),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        warnings.simplefilter("ignore")
        yield
