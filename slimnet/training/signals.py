"""SIGINT and SIGTERM: finish the step at hand, write a checkpoint, stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal, after it had written a checkpoint.

    Attributes:
        signum: the signal.
        status: exit status by custom: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum
        self.status = 128 + signum


class SignalWatch:
    """Notes a SIGINT or SIGTERM instead of dying of it; a second one acts as it would have without the watch.

    Handlers can only be set in the main thread; elsewhere the watch never sees anything.

    Attributes:
        signum: the signal that came, or 0.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._previous: dict[signal.Signals, signal.Handlers | object] = {}

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            self._restore()
            signal.raise_signal(signum)
        self.signum = signum

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}
