"""ONNX files that are timed against each other in ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from slimnet.errors import MeasureError, TimeLimitError, one_line
from slimnet.measure.inputs import InputSpec, make_input
from slimnet.measure.timed import Setting, Timed, generator
from slimnet.onnx.file import read_network, stored_bytes
from slimnet.onnx.providers import ON_GPU, runtime_version
from slimnet.onnx.session import Session, open_session

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
        is_checked: what it asks for was looked at already.
    """

    path: Path
    is_checked: bool = False

    def checked(self) -> OnnxFile:
        """The same, once its bounds were looked at: to look costs memory, which is not to be measured.

        Raises:
            FileFormatError: as :func:`slimnet.onnx.file.read_network`.
        """
        if not self.is_checked:
            read_network(self.path)
        return replace(self, is_checked=True)

    def prepare(self) -> tuple[OnnxFile, int]:
        """Import ONNX Runtime; the network, which holds nothing yet."""
        runtime_version()
        return self, 0

    def open(self, name: str, how: Setting) -> Timed:
        """Create a session, make its inputs, run it once.

        Raises:
            FileFormatError: if the file is missing or is not an ONNX model.
            ArgumentError: if the model does not take this batch, or ``inputs`` do not fit it.
            MeasureError: if the model does not run, or not on this provider.
            TimeLimitError: if it takes longer than the setting allows.
        """
        self.checked()
        start = time.perf_counter_ns()
        session = open_session(self.path, threads=how.threads, provider=how.provider, limit=how.time_limit, is_checked=True)
        created = time.perf_counter_ns()
        rng = generator(how)
        feed = {spec.name: make_input(spec, how, rng) for spec in input_specs(session, str(self.path))}
        begin = time.perf_counter_ns()
        try:
            run, close = session.timed(feed, on_gpu=how.provider in ON_GPU)
        except TimeLimitError:
            raise
        except Exception as error:  # onnxruntime's errors share no base class
            raise MeasureError(f"{self.path} does not run at batch {how.batch}: {one_line(error)}") from None
        first = time.perf_counter_ns() - begin
        took, size = ((created - start) / 1e6, first / 1e6), partial(stored_bytes, self.path)
        return Timed(name, "onnxruntime", self.path, *took, _clock(run), close, size=size)


def input_specs(session: Session, owner: str) -> list[InputSpec]:
    """What a session takes.

    Args:
        session: of the network.
        owner: the network, as messages name it.

    Raises:
        MeasureError: if it takes numbers of a kind that is not made here.
    """
    for spec in session.inputs:
        if spec.type not in _DTYPES:
            known = ", ".join(_DTYPES)
            raise MeasureError(f"{owner} takes {spec.type} for `{spec.name}`: only {known} can be timed.")
    return [InputSpec(owner, spec.name, spec.shape, np.dtype(_DTYPES[spec.type])) for spec in session.inputs]


def _clock(run: Callable[[], object]) -> Callable[[], int]:
    def clock() -> int:
        start = time.perf_counter_ns()
        run()
        return time.perf_counter_ns() - start

    return clock
