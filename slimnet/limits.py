"""A time limit for what other people's networks do: one that never ends must not hang the program."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

from slimnet.errors import ArgumentError, TimeLimitError

TIME_LIMIT = 600.0
"""Seconds that a network may take to be opened, and for one run, where nothing else is said: far more than honest ones need."""
GRACE = 2.0
"""Seconds that a network is given to stop once it is told to."""

Out = TypeVar("Out")
_LIMIT = ContextVar("slimnet time limit", default=TIME_LIMIT)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Within it, networks that are opened may take so many seconds to be opened, and for each run.

    Raises:
        ArgumentError: if it is not above 0.

    Example:
        >>> with time_limit(30):
        ...     current_limit()
        30
    """
    if not seconds > 0:
        raise ArgumentError(f"`time_limit` must be above 0 seconds, got {seconds}.")
    token = _LIMIT.set(seconds)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def current_limit() -> float:
    """Seconds: of the innermost :func:`time_limit`, else `TIME_LIMIT`."""
    return _LIMIT.get()


def within(seconds: float, work: Callable[[], Out], *, stop: Callable[[], object] | None = None, what: str) -> Out:
    """Do ``work`` in a thread and wait for it, so long.

    What does not stop when it is told to is left behind: its thread goes on until the process ends, which does not wait for it.

    Args:
        seconds: to wait.
        work: what to do; its exceptions come out here.
        stop: asks it to stop; None: it is Python code, which is ended where it is.
        what: what did not end, in the message: ``"x.onnx did not finish a run"``.

    Raises:
        TimeLimitError: if it takes longer.
    """
    task = _Task(work)
    task.start()
    try:
        in_time = task.wait(seconds)
    finally:  # also when the user interrupts
        if task.is_alive():
            (stop or task.end)()
    if not in_time:
        task.wait(GRACE)
        raise _overdue(what, seconds)
    return task.result()


class _Task(threading.Thread, Generic[Out]):
    """Something that is done in a thread."""

    def __init__(self, work: Callable[[], Out]) -> None:
        super().__init__(name="slimnet-network", daemon=True)
        self._work = work
        self._done: list[Out] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do it; what comes of it is kept."""
        try:
            self._done.append(self._work())
        except BaseException as error:
            self._error = error

    def wait(self, seconds: float) -> bool:
        """Whether it has ended by then."""
        self.join(min(seconds, threading.TIMEOUT_MAX))
        return not self.is_alive()

    def end(self) -> None:
        """Raise ``SystemExit`` in it, as soon as it does the next step of Python."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident or 0), ctypes.py_object(SystemExit))

    def result(self) -> Out:
        if self._error is not None:
            raise self._error
        return self._done[0]


class Alarm:
    """The same limit for runs that are timed, which a change of threads would slow down: it can only ask them to stop.

    Args:
        seconds: that a run may take.
        stop: asks it to stop.
    """

    def __init__(self, seconds: float, stop: Callable[[], object]) -> None:
        self.seconds = seconds
        self.rung = False
        self.begun: float | None = None
        self._stop, self._closed = stop, threading.Event()
        threading.Thread(target=self._watch, name="slimnet-alarm", daemon=True).start()

    def close(self) -> None:
        """End its thread."""
        self._closed.set()

    def explain(self, error: Exception, what: str) -> Exception:
        """The error of a run, or that it took too long."""
        return _overdue(what, self.seconds) if self.rung else error

    def _watch(self) -> None:
        pause = min(self.seconds / 4, threading.TIMEOUT_MAX)  # rarely, so that it disturbs no timing
        while not self._closed.wait(pause):
            begun = self.begun
            if begun is not None and time.monotonic() - begun > self.seconds:
                self.rung = True
                self._stop()
                return


def _overdue(what: str, seconds: float) -> TimeLimitError:
    return TimeLimitError(f"{what} in {seconds:g} s: if it is no endless network, give it longer with --time-limit.")
