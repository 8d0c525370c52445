"""One-file ONNX that computes what the model does, or no file at all. The façade over torch's exporter."""

from __future__ import annotations

import contextlib
import functools
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
from slimnet._modes import flatten_outputs, with_flat_outputs
from slimnet.errors import ArgumentError, ExportError
from slimnet.export.gate import Examples, check_onnx, check_reference
from slimnet.export.parity import DOUBLE_TOLERANCE, ONNX_MODEL, ONNX_REFERENCE, ParityReport
from slimnet.export.steps import Pace, StepReport, check_mode, optimise_graph
from slimnet.files import write_bytes
from slimnet.names import Mode
from slimnet.onnx.naming import name_by_module
from slimnet.onnx.opset import OLDEST_NATIVE, chosen_opset, first_line, with_opset
from slimnet.onnx.write import in_opset, write
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
    tolerance: float = DOUBLE_TOLERANCE,
    optimise: Mode = "safe",
) -> ParityReport:
    """Export a network as one ONNX file, and write it only if it computes the same.

    The gate compares ONNX Runtime with the model (float32, 1e-5 of the largest logit) and, where
    ``reference`` is another network, the model with it (float64, 1e-9) and ONNX Runtime with it: on random
    and on the given real input, at batch 1, 2 and 7. Neither network is changed: copies are exported and run,
    in evaluation mode, on the CPU.

    Args:
        model: gives a tensor of logits, (N, C), or several tensors in a tuple, a mapping or a dataclass, the first of them
            logits.
        example_inputs: (N, …) tensor, or one for each input; dimension 0 becomes the dynamic batch.
        path: of the file; its folder is created.
        opset: of the file, from 11. Default: 20. Below 18 it is written from that, behind the steps; the gate sees the result.
        reference: what the model must agree with, e.g. the masked network that it was cut from.
        inputs: real batches, each like ``example_inputs``; the more samples, the better.
        input_names: default ``input``, or ``input_0``, ``input_1`` … where there are several.
        output_names: default ``logits``, and ``output_1`` … where there are several.
        metadata: key → value, stored in the file. Not readable in onnxruntime-web.
        tolerance: of the model against the reference, relative. Where surgery folded constants into float32 biases, these are
            rounded once, and 1e-6 is what can be had; the plan itself is verified to 1e-9.
        optimise: the steps that make the graph faster, see :func:`slimnet.export.steps.optimise_graph`: ``none``; ``safe``,
            those that only take work away; ``measured``, all, each timed and kept only if it pays on this machine.

    Returns:
        What was compared, and how far apart it was.

    Raises:
        ArgumentError: if ``opset``, names or inputs do not fit, or an input is not finite.
        ExportError: if the network cannot be exported, or not with this opset.
        ParityError: if a comparison fails. Nothing is written.
    """
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
    )
    write_bytes(Path(path), data, parents=True)
    return report


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
    tolerance: float = DOUBLE_TOLERANCE,
    optimise: Mode = "safe",
    pace: Pace | None = None,
) -> Exported:
    """The same as ``export_onnx``, in memory, with an account of the steps taken on the graph.

    Args:
        model, examples: what to export, and with what to compare it.
        opset, reference, input_names, output_names, metadata, tolerance, optimise: see :func:`export_onnx`.
        pace: how ``measured`` steps are timed; default: one thread, one real image.
    """
    check_mode(optimise)
    opset = chosen_opset(opset)
    names = _input_names(input_names, len(examples.example))
    before, networks = ParityReport(()), {ONNX_MODEL: model}
    with Task("exporting", 3) as task:  # compare, export, make faster and compare
        if reference is not None and reference is not model:
            before, networks[ONNX_REFERENCE] = check_reference(model, reference, examples, tolerance=tolerance), reference
        before.require()
        task.advance()
        native = max(opset, OLDEST_NATIVE)
        proto = with_opset(_export(model, examples, native, names, output_names), native)
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
    report.require()
    return Exported(data, report, steps)


def _export(model: nn.Module, examples: Examples, opset: int, names: list[str], asked: Sequence[str] | None) -> Any:
    """What torch's exporter makes of a copy, with a dynamic batch: a ``ModelProto``."""
    batch, copy = torch.export.Dim("batch"), deepcopy(model).cpu().eval()
    try:
        with _quiet(), torch.no_grad(), no_exit(type(model).__name__), with_flat_outputs(copy):
            outputs = _output_names(asked, len(flatten_outputs(copy(*examples.rows(2)))))
            program = torch.onnx.export(
                copy,
                examples.rows(2),
                dynamo=True,
                external_data=False,
                opset_version=opset,
                dynamic_shapes=tuple({0: batch} for _ in names),
                input_names=names,
                output_names=outputs,
                verbose=False,
            )
            if program is None:
                raise ExportError("torch.onnx.export returned nothing.")
            proto = program.model_proto
            name_by_module(proto)
            return proto
    except ArgumentError:
        raise
    except Exception as error:  # the exporter's errors share no base class
        raise ExportError(f"{type(model).__name__} cannot be exported to ONNX: {first_line(error)}") from error


def _input_names(names: Sequence[str] | None, count: int) -> list[str]:
    default = ["input"] if count == 1 else [f"input_{i}" for i in range(count)]
    chosen = default if names is None else list(names)
    if len(chosen) != count or len(set(chosen)) != count:
        raise ArgumentError(f"`input_names` must be {count} different names, got {chosen}.")
    return chosen


def _output_names(names: Sequence[str] | None, count: int) -> list[str]:
    chosen = ["logits", *(f"output_{i}" for i in range(1, count))] if names is None else list(names)
    if len(chosen) != count or len(set(chosen)) != count:
        raise ArgumentError(f"`output_names` must be {count} different names, got {chosen}.")
    return chosen


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, no log lines and nothing on stdout from the exporter; its errors still rise."""
    with no_logs(*_NOISY), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
