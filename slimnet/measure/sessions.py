"""ONNX Runtime sessions made to be timed against each other. The façade over onnxruntime for measuring."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import ArgumentError, FileFormatError, MeasureError

Array = NDArray[Any]
Inputs = Array | Mapping[str, Array] | None

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


@dataclass(frozen=True, eq=False)
class Timed:
    """One session with its inputs already in place.

    Attributes:
        name: of the variant.
        path: the ONNX file.
        session: the ``onnxruntime.InferenceSession``.
        outputs: names of all outputs.
        feed: input name → array; made once, used for every run.
        session_ms: milliseconds to create the session.
        first_ms: milliseconds of the first run.
    """

    name: str
    path: Path
    session: Any
    outputs: list[str]
    feed: dict[str, Array]
    session_ms: float
    first_ms: float

    def time(self) -> int:
        """Nanoseconds of one run."""
        start = time.perf_counter_ns()
        self.session.run(self.outputs, self.feed)
        return time.perf_counter_ns() - start


def open_timed(name: str, path: Path, *, threads: int, batch: int, inputs: Inputs, seed: int) -> Timed:
    """Create a session, make its inputs, run it once.

    Raises:
        FileFormatError: if the file is missing or is not an ONNX model.
        ArgumentError: if the model does not take this batch, or ``inputs`` do not fit it.
        MeasureError: if the model does not run.
    """
    start = time.perf_counter_ns()
    session = open_session(path, threads=threads)
    created = time.perf_counter_ns()
    rng = np.random.default_rng(seed)
    feed = {spec.name: _input(path, spec, inputs, batch, rng) for spec in session.get_inputs()}
    outputs = [output.name for output in session.get_outputs()]
    run = time.perf_counter_ns()
    try:
        session.run(outputs, feed)
    except Exception as error:  # onnxruntime's errors share no base class
        raise MeasureError(f"{path} does not run at batch {batch}: {_line(error)}") from None
    first = time.perf_counter_ns() - run
    return Timed(name, path, session, outputs, feed, (created - start) / 1e6, first / 1e6)


def open_session(path: Path | bytes, *, threads: int, profile: Path | None = None) -> Any:
    """A sequential CPU session with that many threads, of a file or of its content.

    With ``profile``, the runtime keeps the times of all nodes, to be written to a file whose name begins so.

    Threads stop spinning when a run ends: with several sessions in one process they would slow the next one
        down.

    Raises:
        FileFormatError: if the file is missing or is not an ONNX model.
    """
    import onnxruntime

    if isinstance(path, Path) and not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise FileFormatError(f"{path} {reason}: give an ONNX file.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    content = str(path) if isinstance(path, Path) else path
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        name = path if isinstance(path, Path) else "the network"
        raise FileFormatError(f"{name} is not a readable ONNX file: {_line(error)}") from None


def _input(path: Path, spec: Any, inputs: Inputs, batch: int, rng: np.random.Generator) -> Array:
    """The array for one input of the model: the one given, or a random one of its shape."""
    if spec.type not in _DTYPES:
        raise MeasureError(f"{path} takes {spec.type} for `{spec.name}`: only {', '.join(_DTYPES)} can be timed.")
    if isinstance(inputs, Mapping) and spec.name not in inputs:
        raise ArgumentError(f"`inputs` lacks `{spec.name}`, which {path} takes; it has {', '.join(inputs) or 'none'}.")
    shape = list(spec.shape)
    if isinstance(shape[0] if shape else None, int) and shape[0] != batch:
        raise ArgumentError(f"`batch` must be {shape[0]} for {path}, whose batch is fixed, got {batch}.")
    if inputs is not None:
        given = np.asarray(inputs[spec.name] if isinstance(inputs, Mapping) else inputs)
        return _cycled(path, spec, given, batch)
    if not all(isinstance(size, int) for size in shape[1:]):
        raise ArgumentError(f"`{spec.name}` of {path} has the open shape {shape}: give `inputs` of a definite size.")
    dtype = np.dtype(_DTYPES[spec.type])
    size = [batch, *shape[1:]]
    if dtype.kind == "f":
        return rng.standard_normal(size).astype(dtype)
    return rng.integers(0, 256 if dtype == np.uint8 else 2, size).astype(dtype)


def _cycled(path: Path, spec: Any, given: Array, batch: int) -> Array:
    """The first ``batch`` rows of real input, starting over where there are fewer."""
    fits = len(spec.shape) == given.ndim and all(
        want == got for want, got in zip(spec.shape[1:], given.shape[1:], strict=True) if isinstance(want, int)
    )
    if not fits or len(given) == 0:
        raise ArgumentError(f"`inputs` of shape {given.shape} do not fit `{spec.name}` {spec.shape} of {path}.")
    rows = np.arange(batch) % len(given)
    return np.ascontiguousarray(given[rows], dtype=_DTYPES[spec.type])


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
