"""The files of a format: made of an ONNX file, or opened, as data that somebody else may have made."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slimnet.errors import FileFormatError, MeasureError, SlimnetError, one_line
from slimnet.files import scratch_folder
from slimnet.limits import current_limit, within
from slimnet.measure.inputs import InputSpec, make_input
from slimnet.measure.timed import Setting, Timed, generator
from slimnet.runtimes.apart import ApartError, do_apart
from slimnet.runtimes.base import Array, Runner, runtime
from slimnet.runtimes.formats import Format, check_runs, of_runtime

MAX_BYTES = 1 << 31
"""Of one file."""


def convert(form: Format, data: bytes, precision: str, images: Array | None = None) -> dict[str, bytes]:
    """Make the files of a format, in a process of its own; nothing is left where that fails.

    Args:
        form: one of `slimnet.runtimes.FORMATS`.
        data: the network as ONNX, in fp32, with one input (batch, C, H, W).
        precision: one of the format's.
        images: (n, C, H, W) as the network takes them, to calibrate int8 with.

    Returns:
        Name in the bundle → content.

    Raises:
        ExportError: if it cannot be converted: the reason alone.
        TimeLimitError: if it takes too long.
    """
    with scratch_folder("convert") as folder:
        onnx, samples, out = folder / "model.onnx", folder / "images.npy", folder / "out"
        out.mkdir()
        onnx.write_bytes(data)
        if images is not None:
            np.save(samples, images)
        job = {
            "runtime": form.runtime,
            "onnx": str(onnx),
            "out": [str(out / name) for name in form.files(precision)],
            "precision": precision,
            "images": None if images is None else str(samples),
        }
        try:
            do_apart(f"the conversion to {form.name} in {precision}", do="convert", **job)
        except ApartError as error:  # as a bundle's report may say it: without a path of this machine
            raise ApartError(str(error).replace(f"{out}{os.sep}", "").replace(f"{folder}{os.sep}", "")) from None
        lacking = [name for name in form.files(precision) if not (out / name).is_file()]
        if lacking:
            raise ApartError(f"its converter wrote no {lacking[0]}")
        return {name: (out / name).read_bytes() for name in form.files(precision)}


@dataclass(frozen=True)
class RuntimeFile:
    """A network in the files of a runtime; a variant of :func:`slimnet.measure.compare_latency`.

    Attributes:
        runtime: one of `slimnet.names.DEPLOYED`.
        paths: a file for each suffix of its format.
        shape: (C, H, W) of the images that it takes.
        is_tried: it was opened and run already, in a process of its own.
    """

    runtime: str
    paths: tuple[Path, ...]
    shape: tuple[int, ...]
    is_tried: bool = False

    @property
    def name(self) -> str:
        """What an error calls it."""
        return str(self.paths[0])

    def tried(self, batch: int = 1) -> RuntimeFile:
        """The same, once it was opened and run in a process of its own, which it may hang or take with it.

        Raises:
            SlimnetError: if the runtime is not installed.
            FileFormatError: if a file is missing or too large, or is no network of images that this runtime reads.
            TimeLimitError: if it takes too long.
        """
        if self.is_tried:
            return self
        check_runs(self.runtime)
        for path in self.paths:
            if not path.is_file():
                raise FileFormatError(f"{path} does not exist.")
            if path.stat().st_size > MAX_BYTES:
                raise FileFormatError(f"{path} has {path.stat().st_size:,} bytes: at most {MAX_BYTES:,} are read.")
        job = {"runtime": self.runtime, "files": [str(path.absolute()) for path in self.paths], "shape": [batch, *self.shape]}
        try:
            found = do_apart(f"{self.name} could not be opened: a run", do="try", **job)
        except ApartError as error:
            raise FileFormatError(f"{self.name} does not run in {self.runtime}: {error}") from None
        if len(found) != 2 or found[0] != batch:
            raise FileFormatError(f"{self.name} must give (N, classes), for {batch} images it gives {found}.")
        return replace(self, is_tried=True)

    def opened(self, *, threads: int | None, batch: int | None = None) -> Runner:
        """Open it here.

        Raises:
            FileFormatError: as :meth:`tried`.
        """
        self.tried(batch or 1)
        try:
            return runtime(self.runtime).open(self.paths, threads=threads, batch=batch)
        except SlimnetError:
            raise
        except Exception as error:  # of any library
            raise FileFormatError(f"{self.name} is no network that {self.runtime} reads: {one_line(error)}") from None

    def prepare(self) -> tuple[RuntimeFile, int]:
        """Import the runtime; the network, which holds nothing yet."""
        ready = self.tried()
        runtime(self.runtime).version()
        return ready, 0

    def open(self, name: str, how: Setting) -> Timed:
        """Open it, make its inputs, run it once.

        Raises:
            ArgumentError: if ``inputs`` do not fit.
            MeasureError: if it does not run, or not on this provider.
            FileFormatError: as :meth:`tried`.
        """
        if how.provider != "cpu":
            raise MeasureError(f"{self.runtime} runs on the CPU here, not on {how.provider}.")
        checked = self.tried(how.batch)
        runtime(self.runtime).version()
        start = time.perf_counter_ns()
        network = checked.opened(threads=how.threads, batch=how.batch)
        created = time.perf_counter_ns()
        spec = InputSpec(self.name, "input", ["batch", *self.shape], np.dtype(np.float32))
        images = make_input(spec, how, generator(how))
        begin = time.perf_counter_ns()
        run = self._first(network, images)
        first = time.perf_counter_ns() - begin
        about = {self.runtime: runtime(self.runtime).version()}
        took = (created - start) / 1e6, first / 1e6
        return Timed(name, self.runtime, self.paths[0], *took, _clock(run), environment=about, size=self._size)

    def _size(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    def _first(self, network: Runner, images: Any) -> Callable[[], object]:
        try:
            run = network.ready(images)
            run()
        except Exception as error:  # of any library
            raise MeasureError(f"{self.name} does not run at batch {len(images)}: {one_line(error)}") from None
        return run


def _clock(run: Callable[[], object]) -> Callable[[], int]:
    def clock() -> int:
        start = time.perf_counter_ns()
        run()
        return time.perf_counter_ns() - start

    return clock


class RuntimeClassifier:
    """A network that is open in a runtime: pictures in, a number for each class out.

    Args:
        file: its files.
        threads: None leaves them to the runtime.

    Attributes:
        name: what an error calls it.

    Raises:
        FileFormatError: as :meth:`RuntimeFile.tried`.
    """

    def __init__(self, file: RuntimeFile, *, threads: int | None = None) -> None:
        self.name = file.name
        self._network = file.opened(threads=threads)

    def run(self, images: Array) -> Array:
        """(N, C, H, W) become (N, classes).

        Raises:
            MeasureError: if it does not run on them, or gives something else than a row of numbers for each.
            TimeLimitError: if a run takes too long.
        """
        array = np.ascontiguousarray(images, np.float32)
        what = f"{self.name} did not finish a run"
        try:
            found = within(current_limit(), lambda: self._network.run(array), stop=lambda: None, what=what)
        except SlimnetError:
            raise
        except Exception as error:  # of any library
            raise MeasureError(f"{self.name} does not run on {tuple(images.shape)}: {one_line(error)}") from None
        if found.ndim != 2 or len(found) != len(images):
            raise MeasureError(f"{self.name} must give ({len(images)}, classes), it gives {found.shape}.")
        return found


def classifier(name: str, paths: Sequence[Path], shape: Sequence[int], *, threads: int | None = None) -> RuntimeClassifier:
    """The network in the files of a format, open."""
    assert len(paths) == len(of_runtime(name).suffixes)
    return RuntimeClassifier(RuntimeFile(name, tuple(paths), tuple(shape)), threads=threads)
