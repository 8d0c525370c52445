"""Networks opened and run by ONNX Runtime, within bounds of size and time. The façade over onnxruntime for running."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from slimnet._foreign import is_ours
from slimnet.errors import FileFormatError, MeasureError, one_line
from slimnet.limits import Alarm, current_limit, within
from slimnet.onnx.file import read_network
from slimnet.onnx.providers import CPU, check_provider, provider_options

Array = NDArray[Any]
_QUIET = 4  # what goes wrong is said once, in the error


class Session:
    """A network that is open in ONNX Runtime.

    Attributes:
        name: what an error calls it.
        inputs: of the network, as the runtime describes them: ``name``, ``type``, ``shape``.
        outputs: the same.
        raw: the runtime's own session.
        limit: seconds that a run may take.
    """

    def __init__(self, raw: Any, name: str, limit: float) -> None:
        self.raw, self.name, self.limit = raw, name, limit
        self.inputs: Sequence[Any] = raw.get_inputs()
        self.outputs: Sequence[Any] = raw.get_outputs()

    def run(self, feed: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Any]:
        """The outputs of those names, or all.

        Raises:
            MeasureError: if it does not run.
            TimeLimitError: if it takes too long.
        """
        options = _run_options()

        def work() -> list[Any]:
            try:
                found: list[Any] = self.raw.run(outputs, feed, options)
                return found
            except Exception as error:  # onnxruntime's errors share no base class
                raise MeasureError(f"{self.name} does not run on {_shapes(feed)}: {one_line(error)}") from None

        return within(self.limit, work, stop=lambda: _terminate(options), what=self._overdue)

    def timed(self, feed: Mapping[str, Array], *, on_gpu: bool = False) -> tuple[Callable[[], object], Callable[[], None]]:
        """A run to be timed, in the thread that asks for it, and what is to be called in the end.

        The first run is the one that may hang for good; it is waited for as by :meth:`run`.

        Args:
            feed: input → array.
            on_gpu: inputs and outputs stay on the GPU; a run is over when the GPU has finished.
        """
        options, run = _run_options(), self._bound(feed) if on_gpu else self._fed(feed)
        alarm = Alarm(self.limit, lambda: _terminate(options))

        def again() -> None:
            alarm.begun = time.monotonic()
            try:
                run(options)
            except Exception as error:
                raise alarm.explain(MeasureError(f"{self.name} does not run: {one_line(error)}"), self._overdue) from None
            alarm.begun = None

        try:
            within(self.limit, lambda: run(options), stop=lambda: _terminate(options), what=self._overdue)
        except BaseException:
            alarm.close()
            raise
        weakref.finalize(again, alarm.close)  # of whoever forgets
        return again, alarm.close

    def _fed(self, feed: Mapping[str, Array]) -> Callable[[Any], object]:
        outputs = [output.name for output in self.outputs]
        return lambda options: self.raw.run(outputs, feed, options)

    def _bound(self, feed: Mapping[str, Array]) -> Callable[[Any], object]:
        import onnxruntime

        binding = self.raw.io_binding()
        for name, array in feed.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0))
        for output in self.outputs:
            binding.bind_output(output.name, "cuda")

        def run(options: Any) -> None:
            self.raw.run_with_iobinding(binding, options)
            binding.synchronize_outputs()

        return run

    @property
    def _overdue(self) -> str:
        return f"{self.name} did not finish a run"


def open_session(
    source: Path | bytes,
    *,
    name: str | None = None,
    threads: int | None = None,
    provider: str = "cpu",
    profile: Path | None = None,
    limit: float | None = None,
    is_checked: bool = False,
) -> Session:
    """A session of a file, or of its content.

    With ``threads``, it runs node after node, and its threads stop spinning when a run ends: with several sessions in one process
    they would slow the next one down. Without, it is as the runtime makes it by default.

    Args:
        source: the ONNX file, or its content.
        name: what an error calls it.
        threads: of the session.
        provider: what runs it.
        profile: the runtime keeps the times of all nodes, to be written to a file whose name begins so.
        limit: seconds to open it, and for each run; default: see `slimnet.limits.time_limit`.
        is_checked: its bounds were looked at already.

    Raises:
        FileFormatError: if the file is missing, is not an ONNX model, or asks for too much (`slimnet.onnx.file`).
        MeasureError: if ONNX Runtime lacks the provider, or does not use it.
        TimeLimitError: if it takes too long to be opened.
    """
    import onnxruntime

    if is_ours():  # its own log shows names from the file as they are, in colours
        onnxruntime.set_default_logger_severity(_QUIET)
    name = name or (str(source) if isinstance(source, Path) else "the network")
    limit = current_limit() if limit is None else limit
    if not is_checked:
        read_network(source, name)
    providers: list[Any] = [CPU] if threads is None else provider_options(provider, threads)
    options = _options(threads, profile)
    content = str(source) if isinstance(source, Path) else source

    def work() -> Any:
        return onnxruntime.InferenceSession(content, options, providers=providers)

    def stop() -> None:
        options.set_load_cancellation_flag(True)

    try:
        raw = within(limit, work, stop=stop, what=f"{name} could not be opened")
    except MeasureError:
        raise
    except Exception as error:  # onnxruntime's errors share no base class
        if provider != "cpu":
            raise MeasureError(f"{name} cannot be opened with {providers[0][0]}: {one_line(error)}") from None
        raise FileFormatError(f"{name} is not a readable ONNX file: {one_line(error)}") from None
    if threads is not None:
        check_provider(raw, provider, name)
    return Session(raw, name, limit)


def _options(threads: int | None, profile: Path | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.load_model_format", "ONNX")  # not by what the first bytes look like
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return options


def _run_options() -> Any:
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = _QUIET
    return options


def _terminate(options: Any) -> None:
    """The run ends at its next node."""
    options.terminate = True


def _shapes(feed: Mapping[str, Array]) -> str:
    return ", ".join(f"{array.dtype} {tuple(array.shape)}" for array in feed.values()) or "nothing"
