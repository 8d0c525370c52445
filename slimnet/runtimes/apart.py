"""Work with a runtime in a process of its own: it may print, hang, or take its process with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from slimnet import limits
from slimnet.errors import ExportError, TimeLimitError, whole_text

MAX_MEMORY = 1 << 34
"""Bytes of address space that a file may make a runtime take when it is tried."""
_START = """import json, sys
setup = json.loads(sys.stdin.readline())
sys.path[:] = setup["path"]
from importlib import import_module
import_module(setup["module"]).main()
"""
_MARK = "slimnet: "
_LONGEST = 300  # letters of an error
_ANSWER, _SAID = 1 << 20, 1 << 16  # bytes
Job = Mapping[str, Any]


class ApartError(ExportError):
    """What was to be done apart was not done; the message is the reason alone."""


def do_apart(what: str, **job: Any) -> Any:
    """Do a job and wait for it, as long as `slimnet.limits` lets a network take.

    Args:
        what: is done, for an error: ``"the conversion to openvino"``.
        **job: ``do``: ``convert`` or ``try``, and its arguments, in JSON values.

    Returns:
        What it gives, in JSON values.

    Raises:
        ApartError: with what the runtime says, or the signal that ended it.
        TimeLimitError: if it takes too long.
    """
    with Worker(__name__) as worker:
        return worker.ask(what, **job)


class Worker:
    """A process of its own that does one job after the other; it ends with the block, or with a job that fails to end.

    Args:
        module: whose ``main`` it runs: a call of :func:`serve`.
    """

    def __init__(self, module: str) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", _START]
        self._child = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._errors, env=_environment(), start_new_session=True
        )
        self._send({"path": _path(), "module": module})

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, what: str, **job: Any) -> Any:
        """As :func:`do_apart`, in this process, which is closed when the job fails in any way but an error of its own."""
        seconds = limits.current_limit()
        self._send(job)
        try:
            line = limits.within(seconds, self._answer, stop=self._kill, what=what)
        except TimeLimitError:
            self.close()
            raise TimeLimitError(f"{what} did not end in {seconds:g} s: give it longer with --time-limit.") from None
        except BaseException:
            self.close()
            raise
        if line.startswith(_MARK):
            answer = json.loads(line.removeprefix(_MARK))
            if "error" in answer:
                raise ApartError(answer["error"])
            return answer["value"]
        said = self._last_words()
        self.close()
        raise ApartError(said)

    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._child.poll() is None

    def close(self) -> None:
        """End the process, and what it started."""
        self._kill()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with suppress(OSError):  # what it was not told is lost with it
                    stream.close()
        self._child.wait()
        self._errors.close()

    def _send(self, values: Job) -> None:
        assert self._child.stdin is not None
        with suppress(OSError):  # it has ended: there will be no answer, which says so
            self._child.stdin.write(json.dumps(values).encode() + b"\n")
            self._child.stdin.flush()

    def _answer(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline(_ANSWER).decode(errors="replace")

    def _last_words(self) -> str:
        code = self._child.wait()
        if code < 0:
            return f"it was ended by {_signal(-code)}"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _SAID))
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"it ended with status {code}"

    def _kill(self) -> None:
        if self._child.poll() is not None:
            return
        if hasattr(os, "killpg"):
            os.killpg(self._child.pid, signal.SIGKILL)
        else:
            self._child.kill()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _path() -> list[str]:
    """Where modules are found here; what is relative stays what it is."""
    return [str(Path(entry).absolute()) for entry in sys.path]


def _environment() -> dict[str, str]:
    """OpenVINO's converters send nothing home from where ``CI`` is set."""
    return {**os.environ, "CI": "true", "TQDM_DISABLE": "1"}


def main() -> None:
    """In the new process."""
    serve({"convert": _convert, "try": _try})


def serve(jobs: Mapping[str, Callable[[Job], Any]]) -> None:
    """Do what is asked, a line of JSON a job, until nothing more comes.

    What libraries print goes nowhere, what comes of a job is the only thing on stdout.

    Args:
        jobs: what ``do`` may name.
    """
    out = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer: Job = {"value": jobs[job["do"]](job)}
        except Exception as error:  # of any library
            answer = {"error": whole_text(error)[:_LONGEST]}
        os.write(out, (_MARK + json.dumps(answer) + "\n").encode())
    os._exit(0)  # threads of a runtime do not keep it


def _convert(job: Job) -> str:
    """Make files; the version of what made them."""
    import numpy as np

    from slimnet.runtimes.base import runtime

    maker = runtime(job["runtime"])
    images = None if job["images"] is None else np.load(job["images"])
    maker.convert(Path(job["onnx"]), [Path(name) for name in job["out"]], job["precision"], images)
    return maker.version()


def _try(job: Job) -> list[int]:
    """Open files and run them once, on zeros; the shape of what comes out."""
    import numpy as np

    from slimnet.runtimes.base import runtime

    found = runtime(job["runtime"])
    found.version()  # imported before memory is bounded
    _bound_memory()
    network = found.open([Path(name) for name in job["files"]], threads=1, batch=None)
    return list(network.run(np.zeros(job["shape"], np.float32)).shape)


def _bound_memory() -> None:
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY if most < 0 else min(MAX_MEMORY, most), most))
