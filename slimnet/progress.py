"""How long work tells what it does: in lines, and in tasks that have a total.

Work says ``with Task("calibrating", 12) as task: … task.advance()`` and knows nothing of terminals. Who wants to see it listens
(:func:`listening`), as :mod:`slimnet.terminal` does; otherwise nobody is told. Lines go to standard logging as well, to the
logger of the room that says them (``slimnet.training``, ``slimnet.commands`` …).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self, TypeVar

from slimnet._clean import clean

Say = Callable[[str], None]
"""Told a line at a time."""

Item = TypeVar("Item")

logging.getLogger("slimnet").addHandler(logging.NullHandler())


def say_from(module: str) -> Say:
    """Tells lines from a module to whoever listens, and to the logger of its room at level INFO.

    Args:
        module: its ``__name__``: of ``slimnet.training.heads`` the logger is ``slimnet.training``.
    """
    logger = logging.getLogger(".".join(module.split(".")[:2]))

    def say(line: str) -> None:
        logger.info("%s", clean(line))
        listener().say(line)

    return say


class Task:
    """Something that takes a while, told to whoever listens when it is made.

    Args:
        name: what is being done.
        total: how much there is to do; None where nobody knows.
        unit: of what, ``"images"`` say; "" where only the share tells something.
        done: how much was done before.

    Attributes:
        name, total, unit, done: as they are now.
    """

    def __init__(self, name: str, total: float | None = None, unit: str = "", *, done: float = 0) -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, done
        self._listener, self._first = listener(), done
        self._start = self._listener.clock()
        self._note = ""
        self._make_note: Callable[[], str] | None = None

    def __enter__(self) -> Self:
        self._start = self._listener.clock()
        self._listener.begin(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self.total is not None:
            self.done = self.total
        self._listener.end(self)

    def advance(self, by: float = 1, note: Callable[[], str] | None = None) -> None:
        """More is done.

        Args:
            by: how much more.
            note: what else there is to show; only called when it is shown.
        """
        self.reach(self.done + by, note)

    def reach(self, done: float, note: Callable[[], str] | None = None) -> None:
        """So much is done by now."""
        self.done, self._make_note = done, note
        self._listener.advance(self)
        self._make_note = None

    def report(self, line: str) -> None:
        """A line about what is done so far; where many come in a short time, some may be left out."""
        self._listener.report(self, line)

    @property
    def note(self) -> str:
        """What else there is to show; made at most once for each advance, and else what it was."""
        if self._make_note is not None:
            self._note, self._make_note = self._make_note(), None
        return self._note

    @property
    def rate(self) -> float | None:
        """How much is done in a second, since the task began; None before anything is."""
        seconds, gained = self._listener.clock() - self._start, self.done - self._first
        return gained / seconds if gained > 0 and seconds > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds until all is done, at that rate; None where that cannot be known."""
        if self.total is None:
            return None
        rest = max(self.total - self.done, 0)
        return rest / self.rate if rest and self.rate else None if rest else 0.0


class Listener:
    """Told what long work does; this one shows it to nobody."""

    clock: Callable[[], float] = staticmethod(time.monotonic)

    def say(self, line: str) -> None:
        """A line."""

    def begin(self, task: Task) -> None:
        """A task begins; it may be part of the one before."""

    def advance(self, task: Task) -> None:
        """More of a task is done."""

    def report(self, task: Task, line: str) -> None:
        """A line about a task, which may be left out where many come in a short time."""

    def end(self, task: Task) -> None:
        """A task is over: its ``done`` is its ``total`` unless it was broken off."""


NOBODY = Listener()
_listener: ContextVar[Listener] = ContextVar("slimnet.progress", default=NOBODY)


def listener() -> Listener:
    """Who is told now, in this thread: :data:`NOBODY`, unless somebody is :func:`listening`."""
    return _listener.get()


@contextmanager
def listening(who: Listener) -> Iterator[Listener]:
    """Whatever is done meanwhile is told to ``who``."""
    token = _listener.set(who)
    try:
        yield who
    finally:
        _listener.reset(token)


def each(items: Iterable[Item], name: str, total: float | None, unit: str = "") -> Iterator[Item]:
    """The items, one after the other, as a task: one is done when the next is asked for."""
    with Task(name, total, unit) as task:
        for item in items:
            yield item
            task.advance()
