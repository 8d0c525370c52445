"""Ctrl-C and SIGTERM: one short line and status 130 or 143, wherever they strike.

The first one unwinds, so that a video is finished and temporary files go. Where that does not end the process in time, because a
library swallows it or its own code does not return, or at the second one, the process is ended.
"""

from __future__ import annotations

import _thread  # threading and typing take longer to import than a user may need to press Ctrl-C
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

GRACE = 1.5  # seconds
_WORDS = {int(signal.SIGINT): "interrupted", int(signal.SIGTERM): "terminated"}
_REAP = 0.5  # seconds for a killed process to go
_TIDY = (("slimnet.files.writing", "remove_live"), ("slimnet.files.locks", "drop_locks"), ("slimnet.terminal", "erase"))


class Interrupts:
    """What became of Ctrl-C and SIGTERM in this process.

    Attributes:
        unwinds: whether there may be something to put right: from when a command begins until it is over.
        came: the number of the first one that nobody else was waiting for, or 0.
        told: whether the user has been told.
    """

    def __init__(self) -> None:
        self.unwinds = self.told = False
        self.came = 0
        self._unraisable = sys.unraisablehook

    @property
    def status(self) -> int:
        """Of a process that one ended."""
        return 128 + (self.came or signal.SIGINT)

    @property
    def word(self) -> str:
        """What it is called."""
        return _WORDS[self.came or signal.SIGINT]

    def watch(self) -> None:
        """Take them from now on; but for one that is ignored in this process, as Ctrl-C in the background of a shell."""
        taken = [number for number in _WORDS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in taken:
            signal.signal(number, self._strike)
        if not taken:
            return
        sys.unraisablehook = self._hide
        ours, theirs = os.pipe()
        os.set_blocking(theirs, False)
        signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=self._forget)
        _thread.start_new_thread(self._guard, (ours,))

    def _forget(self) -> None:
        """In a forked process of a library: the pipe is its parent's, and it has nothing to put right when it is ended."""
        signal.set_wakeup_fd(-1)
        if signal.getsignal(signal.SIGTERM) == self._strike:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _strike(self, signum: int, frame: FrameType | None) -> None:
        if self.came or not self.unwinds:
            self.end(signum)
        self.came = signum
        raise KeyboardInterrupt

    def _guard(self, pipe: int) -> None:
        """Told at once of every signal, also while the main thread is in foreign code and no handler can run."""
        while True:
            for number in os.read(pipe, 16):
                if number in _WORDS and signal.getsignal(number) == self._strike:  # a training waits for it by itself
                    time.sleep(GRACE)
                    if self.came or self.unwinds:
                        self.end(number)

    def _hide(self, unraisable: Any) -> None:
        """What goes wrong in destructors after an interrupt is of no interest."""
        if not self.came:
            self._unraisable(unraisable)

    def end(self, signum: int = 0) -> NoReturn:
        """End the process here and now, with nothing left behind: at its regular end, foreign code would go on for a second.

        Args:
            signum: which one struck, where it is the first.
        """
        self.came = self.came or signum
        for module, function in _TIDY:
            if module in sys.modules:
                getattr(sys.modules[module], function, int)()
        if "multiprocessing.process" in sys.modules:
            for child in sys.modules["multiprocessing.process"].active_children():
                child.kill()
                child.join(_REAP)
        if not self.told:
            os.write(2, f"slimnet: {self.word}\n".encode())
        os._exit(self.status)


interrupts = Interrupts()
