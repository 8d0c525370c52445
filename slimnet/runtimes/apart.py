"""Work with a runtime in a process of its own: it may print, hang, or take its process with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from slimnet import limits
from slimnet.errors import ExportError, TimeLimitError, whole_text

MAX_MEMORY = 1 << 34
"""Bytes of address space that a file may make a runtime take when it is tried."""
_START = """import json, sys
job = json.load(sys.stdin)
sys.path[:] = job["path"]
from slimnet.runtimes.apart import main
main(job)
"""
_MARK = "slimnet: "
_LONGEST = 300  # letters of an error


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
    seconds, command = limits.current_limit(), [sys.executable, "-c", _START]
    pipe: Any = subprocess.PIPE
    child = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace", env=_environment(), start_new_session=True
    )
    try:
        out, err = child.communicate(json.dumps({**job, "path": _path()}), timeout=min(seconds, 1e6))
    except subprocess.TimeoutExpired:
        raise TimeLimitError(f"{what} did not end in {seconds:g} s: give it longer with --time-limit.") from None
    finally:
        _end(child)
    if out.startswith(_MARK):
        answer = json.loads(out.removeprefix(_MARK))
        if "error" in answer:
            raise ApartError(answer["error"])
        return answer["value"]
    if child.returncode < 0:
        raise ApartError(f"it was ended by {_signal(-child.returncode)}")
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    raise ApartError(lines[-1] if lines else f"it ended with status {child.returncode}")


def _end(child: subprocess.Popen[str]) -> None:
    """It, and what it started."""
    if child.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
        child.communicate()


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


def main(job: dict[str, Any]) -> None:
    """In the new process: what libraries print goes nowhere, what comes of it is the only thing on stdout."""
    out = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        value = {"convert": _convert, "try": _try}[job["do"]](job)
        answer: dict[str, Any] = {"value": value}
    except Exception as error:  # of any library
        answer = {"error": whole_text(error)[:_LONGEST]}
    os.write(out, (_MARK + json.dumps(answer)).encode())
    os.close(out)
    os._exit(0)  # threads of a runtime do not keep it


def _convert(job: dict[str, Any]) -> str:
    """Make files; the version of what made them."""
    import numpy as np

    from slimnet.runtimes.base import runtime

    maker = runtime(job["runtime"])
    images = None if job["images"] is None else np.load(job["images"])
    maker.convert(Path(job["onnx"]), [Path(name) for name in job["out"]], job["precision"], images)
    return maker.version()


def _try(job: dict[str, Any]) -> list[int]:
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
