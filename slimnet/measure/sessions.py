"""ONNX Runtime sessions made to be timed against each other. The façade over onnxruntime for measuring."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slimnet.errors import FileFormatError, MeasureError
from slimnet.measure.inputs import InputSpec, make_input
from slimnet.measure.providers import CPU, ON_GPU, check_provider, provider_options
from slimnet.measure.timed import Array, Setting, Timed, generator, one_line

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


@dataclass(frozen=True)
class OnnxFile:
    """A network in an ONNX file, to be run by ONNX Runtime.

    Attributes:
        path: the file.
    """

    path: Path

    def prepare(self) -> tuple[OnnxFile, int]:
        """Import ONNX Runtime; the network, which holds nothing yet."""
        import onnxruntime  # noqa: F401

        return self, 0

    def open(self, name: str, how: Setting) -> Timed:
        """Create a session, make its inputs, run it once.

        Raises:
            FileFormatError: if the file is missing or is not an ONNX model.
            ArgumentError: if the model does not take this batch, or ``inputs`` do not fit it.
            MeasureError: if the model does not run, or not on this provider.
        """
        start = time.perf_counter_ns()
        session = open_session(self.path, threads=how.threads, provider=how.provider)
        created = time.perf_counter_ns()
        rng = generator(how)
        feed = {spec.name: make_input(self._spec(spec), how, rng) for spec in session.get_inputs()}
        outputs = [output.name for output in session.get_outputs()]
        begin = time.perf_counter_ns()
        try:
            run = _bound(session, outputs, feed) if how.provider in ON_GPU else _fed(session, outputs, feed)
            run()
        except Exception as error:  # onnxruntime's errors share no base class
            raise MeasureError(f"{self.path} does not run at batch {how.batch}: {one_line(error)}") from None
        first = time.perf_counter_ns() - begin
        return Timed(name, "onnxruntime", self.path, (created - start) / 1e6, first / 1e6, _clock(run))

    def _spec(self, spec: Any) -> InputSpec:
        if spec.type not in _DTYPES:
            known = ", ".join(_DTYPES)
            raise MeasureError(f"{self.path} takes {spec.type} for `{spec.name}`: only {known} can be timed.")
        return InputSpec(str(self.path), spec.name, spec.shape, np.dtype(_DTYPES[spec.type]))


def open_session(path: Path | bytes, *, threads: int, provider: str = "cpu", profile: Path | None = None) -> Any:
    """A sequential session with that many threads, of a file or of its content.

    With ``profile``, the runtime keeps the times of all nodes, to be written to a file whose name begins so.

    Threads stop spinning when a run ends: with several sessions in one process they would slow the next one down.

    Raises:
        FileFormatError: if the file is missing or is not an ONNX model.
        MeasureError: if ONNX Runtime lacks the provider, or does not use it.
    """
    import onnxruntime

    if isinstance(path, Path) and not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise FileFormatError(f"{path} {reason}: give an ONNX file.")
    providers = provider_options(provider, threads)
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
    name = str(path) if isinstance(path, Path) else "the network"
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime's errors share no base class
        if providers[0][0] != CPU:
            raise MeasureError(f"{name} cannot be opened with {providers[0][0]}: {one_line(error)}") from None
        raise FileFormatError(f"{name} is not a readable ONNX file: {one_line(error)}") from None
    check_provider(session, provider, name)
    return session


def _fed(session: Any, outputs: list[str], feed: dict[str, Array]) -> Callable[[], object]:
    return lambda: session.run(outputs, feed)


def _bound(session: Any, outputs: list[str], feed: dict[str, Array]) -> Callable[[], object]:
    """A run whose inputs and outputs stay on the GPU; it returns when the GPU has finished."""
    import onnxruntime

    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0))
    for name in outputs:
        binding.bind_output(name, "cuda")

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def _clock(run: Callable[[], object]) -> Callable[[], int]:
    def clock() -> int:
        start = time.perf_counter_ns()
        run()
        return time.perf_counter_ns() - start

    return clock
