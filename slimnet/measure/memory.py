"""How much memory a network takes when it runs, seen from a process of its own."""

from __future__ import annotations

import multiprocessing
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from slimnet.errors import MeasureError, SlimnetError, one_line
from slimnet.measure.sessions import OnnxFile
from slimnet.measure.timed import Network, Setting

RUNS = 5
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(network: Network, how: Setting) -> int | None:
    """Open a network in a new process, run it a few times, and see how far its resident memory rises.

    What the process held before it opened the network (Python, the runtime itself) is not part of it; weights, the memory
    that the runtime sets aside, and what it needs while it opens the network (or compiles it) are.

    Args:
        network: an :class:`~slimnet.measure.sessions.OnnxFile` or a :class:`~slimnet.measure.torch_sessions.TorchNetwork`.
        how: threads, batch, provider, inputs.

    Returns:
        Bytes of main memory; None where the system does not tell.

    Raises:
        SlimnetError: what opening it raises.
        MeasureError: if the process does not come to its end.
    """
    network = network.checked() if isinstance(network, OnnxFile) else network
    try:
        ForkingPickler.dumps((network, how))
    except Exception as error:  # whatever the class of a network raises
        raise MeasureError(f"the network cannot be handed to another process, to see its memory: {one_line(error)}") from None
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, network, how), daemon=True)
    with _without_interrupts():
        child.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        child.join()
        raise MeasureError(f"the process that was to measure memory ended early, with status {child.exitcode}.") from None
    except BaseException:
        child.kill()
        raise
    finally:
        ours.close()
    child.join()
    if isinstance(answer, SlimnetError):
        raise answer
    return int(answer) if answer is not None else None


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started meanwhile never sees Ctrl-C: the process that started it does, and ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(pipe: Connection, network: Network, how: Setting) -> None:
    """In the new process."""
    try:
        pipe.send(_rise(network, how))
    except SlimnetError as error:
        pipe.send(error)


def _rise(network: Network, how: Setting) -> int | None:
    ready, held = network.prepare()
    before = _start()
    timed = ready.open("the network", how)
    for _ in range(RUNS):
        timed.time()
    after = _peak()
    return None if before is None or after is None else held + max(0, after - before)


def _start() -> int | None:
    """Bytes resident now; the peak begins anew from here where the system lets it, else it is the peak so far."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int | None:
    """Most bytes that were resident at once.

    Linux counts it for each program anew only here: ``getrusage`` begins with the peak of the process that started this one.
    """
    if sys.platform == "linux":
        return _status("VmHWM")
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else 1024 * most)


def _status(name: str) -> int | None:
    try:
        found: Any = re.search(rf"^{name}:\s*(\d+) kB$", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
