"""Ctrl-C: one short line and status 130, wherever it strikes.

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
STATUS = 128 + signal.SIGINT
_REAP = 0.5  # seconds for a killed process to go
_TIDY = (("slimnet.files.writing", "remove_live"), ("slimnet.files.locks", "drop_locks"), ("slimnet.terminal", "erase"))
_LINE = b"slimnet: interrupted\n"


class Interrupts:
    """What became of Ctrl-C in this process.

    Attributes:
        unwinds: whether there may be something to put right: from when a command begins until it is over.
        came: whether one came that nobody else was waiting for.
        told: whether the user has been told.
    """

    def __init__(self) -> None:
        self.unwinds = self.came = self.told = False
        self._unraisable = sys.unraisablehook

    def watch(self) -> None:
        """Take Ctrl-C from now on; unless it is ignored in this process, as in the background of a shell."""
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            return
        signal.signal(signal.SIGINT, self._strike)
        sys.unraisablehook = self._hide
        ours, theirs = os.pipe()
        os.set_blocking(theirs, False)
        signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
        _thread.start_new_thread(self._guard, (ours,))

    def _strike(self, signum: int, frame: FrameType | None) -> None:
        if self.came or not self.unwinds:
            self.end()
        self.came = True
        raise KeyboardInterrupt

    def _guard(self, pipe: int) -> None:
        """Told at once of every signal, also while the main thread is in foreign code and no handler can run."""
        while True:
            struck = signal.SIGINT in os.read(pipe, 16)
            if struck and signal.getsignal(signal.SIGINT) == self._strike:  # a training waits for it by itself
                time.sleep(GRACE)
                if self.came or self.unwinds:
                    self.end()

    def _hide(self, unraisable: Any) -> None:
        """What goes wrong in destructors after an interrupt is of no interest."""
        if not self.came:
            self._unraisable(unraisable)

    def end(self) -> NoReturn:
        """End the process here and now, with nothing left behind: at its regular end, foreign code would go on for a second."""
        for module, function in _TIDY:
            if module in sys.modules:
                getattr(sys.modules[module], function, int)()
        if "multiprocessing.process" in sys.modules:
            for child in sys.modules["multiprocessing.process"].active_children():
                child.kill()
                child.join(_REAP)
        if not self.told:
            os.write(2, _LINE)
        os._exit(STATUS)


interrupts = Interrupts()
