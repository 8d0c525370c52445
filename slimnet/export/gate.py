"""The parity gate: which networks are compared, and on what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from slimnet._foreign import no_exit
from slimnet._modes import flatten_outputs, stored_tolerance, unwrapped, widened
from slimnet.errors import ArgumentError, ExportError, MeasureError, TimeLimitError, one_line
from slimnet.export.parity import (
    DOUBLE_TOLERANCE,
    MODEL_REFERENCE,
    SINGLE_TOLERANCE,
    STORED_LEAST,
    ParityReport,
    compare,
)

if TYPE_CHECKING:
    from slimnet.export.parity import Run

BATCHES = (1, 2, 7)

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs to export and compare with, on the CPU.

    Attributes:
        example: one (N, …) tensor for each input of the network.
        real: the same with all real samples, or None.
    """

    example: Inputs
    real: Inputs | None

    @classmethod
    def of(cls, example_inputs: Tensor | Inputs, inputs: Sequence[Tensor | Inputs] = ()) -> Examples:
        """Check the inputs and join the real ones into one pool.

        Raises:
            ArgumentError: if a shape or type differs from the example's, or a value is not finite.
        """
        example = _as_tuple(example_inputs)
        _check_inputs(example, example, "example_inputs")
        batches = [_as_tuple(batch) for batch in inputs]
        for i, batch in enumerate(batches):
            _check_inputs(batch, example, f"inputs[{i}]")
        real = tuple(torch.cat(column) for column in zip(*batches, strict=True)) if batches else None
        return cls(example, real)

    def widened(self) -> Examples:
        """The same in float32 where they are of half precision."""
        return Examples(_widened(self.example), None if self.real is None else _widened(self.real))

    def rows(self, batch: int) -> Inputs:
        """The first rows of the example, starting over where there are fewer."""
        return tuple(x[torch.arange(batch) % len(x)] for x in self.example)

    def batches(self) -> Iterator[tuple[str, Inputs]]:
        """Random and real batches of 1, 2 and 7, and one of all real samples that are left."""
        generator = torch.Generator().manual_seed(0)
        for batch in BATCHES:
            yield "random", tuple(_random(x, batch, generator) for x in self.rows(batch))
        if self.real is None:
            return
        start, samples = 0, len(self.real[0])
        for batch in (*BATCHES, samples - sum(BATCHES)):
            if batch > 0:
                rows = (start + torch.arange(batch)) % samples
                yield "real", tuple(x[rows] for x in self.real)
                start += batch


def _widened(inputs: Inputs) -> Inputs:
    return tuple(widened(x) if x.is_floating_point() else x for x in inputs)


def check_reference(
    model: nn.Module, reference: nn.Module, examples: Examples, *, tolerance: float | None = None, names: Sequence[str] = ()
) -> ParityReport:
    """Compare the model with the network that it should equal, in float64: before anything is exported.

    Args:
        model, reference: the two.
        examples: what to run.
        tolerance: relative; default: :func:`reference_tolerance`.
        names: of the outputs.

    Raises:
        ParityError: if an output is not finite or has another shape.
        ExportError: if a network does not run.
    """
    right, candidate = (_torch(network, torch.float64) for network in (reference, model))
    pair, batches = MODEL_REFERENCE, examples.batches()
    allowed = reference_tolerance(model) if tolerance is None else tolerance
    return ParityReport(compare(right, candidate, batches, pair=pair, tolerance=allowed, names=names))


def reference_tolerance(model: nn.Module) -> float:
    """What a model may differ by from its reference, by the type in which its parameters are stored: 1e-9 in float64, 1e-6 in
    float32, 16 · ε in coarser numbers."""
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return DOUBLE_TOLERANCE if kinds <= {torch.float64} else stored_tolerance(model, STORED_LEAST)


def check_onnx(
    data: bytes, networks: Mapping[str, nn.Module], examples: Examples, *, name: str = "the exported network"
) -> ParityReport:
    """Compare ONNX Runtime with PyTorch in float32: to 1e-5, or 16 · ε of coarser numbers that a network is stored in.

    Args:
        data: bytes of the ONNX file.
        networks: name of the pair → network that the file should equal.
        examples: what to run.
        name: what an error calls the file.

    Returns:
        All checks, passed or not.

    Raises:
        ParityError: if an output is not finite or has another shape.
        ExportError: if a network or the file does not run.
    """
    run, names = _onnx(data, name)
    tolerance = max(stored_tolerance(network, SINGLE_TOLERANCE) for network in networks.values())
    return check_run(run, networks, examples, tolerance=tolerance, names=names)


def check_run(
    run: Run,
    networks: Mapping[str, nn.Module],
    examples: Examples,
    *,
    tolerance: float = SINGLE_TOLERANCE,
    names: Sequence[str] = (),
) -> ParityReport:
    """The same of anything that runs: inputs in, outputs out.

    Raises:
        ParityError: if an output is not finite or has another shape.
        ExportError: if a network does not run; and what ``run`` raises.
    """
    batches = list(examples.batches())
    checks = [
        compare(_torch(network, torch.float32), run, batches, pair=pair, tolerance=tolerance, names=names)
        for pair, network in networks.items()
    ]
    return ParityReport(tuple(chain.from_iterable(checks)))


def _torch(model: nn.Module, dtype: torch.dtype) -> Run:
    """A copy of the model on the CPU, in evaluation mode and of that precision."""
    network = deepcopy(unwrapped(model)).cpu().eval().to(dtype)

    def run(inputs: Inputs) -> list[Tensor]:
        cast = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
        try:
            with torch.no_grad(), no_exit(type(model).__name__):
                return flatten_outputs(network(*cast))
        except Exception as error:
            raise ExportError(f"{type(model).__name__} does not run in {dtype}: {one_line(error)}") from error

    return run


def onnx_run(data: bytes, name: str = "the exported network") -> Callable[[Inputs], Tensor]:
    """ONNX Runtime on the CPU, as a user gets it by default: its first output, the logits.

    Args:
        data: bytes of the ONNX file.
        name: what an error calls it.

    Raises:
        FileFormatError: if it cannot be opened; the function that is returned raises ExportError where the network does not run.
    """
    run, _ = _onnx(data, name)
    return lambda inputs: run(inputs)[0]


def _onnx(data: bytes, name: str) -> tuple[Callable[[Inputs], list[Tensor]], list[str]]:
    """The same with all outputs, and their names.

    Args:
        data: bytes of the ONNX file.
        name: what an error calls it.

    Raises:
        FileFormatError: if it cannot be opened; the function that is returned raises ExportError where the network does not run.
    """
    from slimnet.onnx.session import open_session

    session = open_session(data, name=name)
    names = [spec.name for spec in session.inputs]

    def run(inputs: Inputs) -> list[Tensor]:
        if len(names) != len(inputs) or not session.outputs:
            counts = f"takes {len(names)} inputs and gives {len(session.outputs)} outputs"
            raise ExportError(f"{name} {counts}: it was to take {len(inputs)}.")
        try:
            found = session.run(dict(zip(names, (x.numpy() for x in inputs), strict=True)))
            return [torch.from_numpy(each) for each in found]
        except TimeLimitError:
            raise
        except (MeasureError, TypeError) as error:  # TypeError: what it gives is no tensor, or one of text
            raise ExportError(f"{name} does not run on batch {len(inputs[0])}: {one_line(error)}") from None

    return run, [spec.name for spec in session.outputs]


def _as_tuple(inputs: Tensor | Inputs) -> Inputs:
    several = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if not several or not all(isinstance(x, Tensor) for x in several):
        raise ArgumentError(f"inputs must be tensors or tuples of tensors, got {type(inputs).__name__}.")
    return tuple(x.detach().cpu() for x in several)


def _check_inputs(inputs: Inputs, example: Inputs, name: str) -> None:
    shapes = [tuple(x.shape) for x in inputs]
    samples = {shape[0] for shape in shapes if shape}
    like = len(inputs) == len(example) and all(
        x.shape[1:] == e.shape[1:] and x.dim() == e.dim() and x.dtype == e.dtype for x, e in zip(inputs, example, strict=True)
    )
    if len(samples) != 1 or 0 in samples or not all(shapes) or not like:
        wanted = ", ".join(f"(N, {', '.join(map(str, e.shape[1:]))}) {e.dtype}" for e in example)
        got = ", ".join(f"{shape} {x.dtype}" for shape, x in zip(shapes, inputs, strict=True))
        raise ArgumentError(f"`{name}` must be {wanted} with N ≥ 1, got {got}.")
    if not all(bool(x.isfinite().all()) for x in inputs):
        raise ArgumentError(f"`{name}` holds NaN or infinity.")


def _random(like: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Normal values for floats, any byte for bytes; other integers (indices) stay the example's."""
    shape = (batch, *like.shape[1:])
    if like.is_floating_point():
        return torch.randn(shape, generator=generator).to(like.dtype)
    if like.dtype == torch.uint8:
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return like
