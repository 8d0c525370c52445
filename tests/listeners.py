"""Somebody who listens to what long work does. No torch here."""

from __future__ import annotations

import io

from slimnet.progress import Listener, Task


class Heard(Listener):
    """Remembers what it was told.

    Attributes:
        lines: what was said and reported.
        tasks: every task that began.
        shares: name of a task, how much was done and the total, whenever more was.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[Task] = []
        self.shares: list[tuple[str, float, float | None]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def begin(self, task: Task) -> None:
        self.tasks.append(task)

    def advance(self, task: Task) -> None:
        self.shares.append((task.name, task.done, task.total))

    def report(self, task: Task, line: str) -> None:
        self.lines.append(line)

    def finished(self) -> dict[str, bool]:
        """Name of each task → whether all of it was done."""
        return {task.name: task.done == task.total for task in self.tasks}


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True
