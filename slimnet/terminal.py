"""Progress and tables on a terminal, the façade over rich: a bar with the time that is left, plain lines where nobody watches.

A bar is one line, drawn when work tells of itself: there is no thread beside what is being timed, and the cursor is never hidden,
so that whatever ends the process leaves the terminal in order. Notebooks show it in the same way. What came from data is text: it
is cleaned, and never read as markup. rich is imported where something is drawn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar, TextIO

from slimnet._clean import clean
from slimnet.progress import Listener, Task, listening

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REDRAW = 0.5
"""Seconds from one drawing of a bar to the next."""
LINE = 15.0
"""Seconds, at least, from one line about a task to the next where nobody watches ..."""
SHARE = 0.1
"""... and this share of the time that it has taken: an hour gives a few dozen lines."""
_NOTEBOOK_WIDTH = 100


def show() -> AbstractContextManager[Listener]:
    """Show what long work does meanwhile on stderr: ``with slimnet.terminal.show(): slimnet.slim(…)``."""
    return listening(on_stderr())


def on_stderr() -> Listener:
    """A bar where stderr is a terminal or a notebook, else lines."""
    return on(sys.stderr)


def on(stream: TextIO) -> Listener:
    """A bar where the stream is a terminal or a notebook, else lines."""
    return Bars(stream) if is_live(stream) or _is_notebook(stream) else Lines(stream)


def is_live(stream: TextIO) -> bool:
    """Whether it is a terminal that can go back in a line."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


class Lines(Listener):
    """A line now and then, and one for whatever is said.

    Args:
        stream: where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun: dict[Task, float] = {}
        self._last: float | None = None
        self._reported: float | None = None

    def say(self, line: str) -> None:
        """A line."""
        self._stream.write(clean(line) + "\n")
        self._stream.flush()

    def begin(self, task: Task) -> None:
        """Nothing is told of what is done at once."""
        self._begun[task] = self.clock()

    def advance(self, task: Task) -> None:
        """A line, if the last is long ago."""
        now, begun = self.clock(), self._begun[task]
        last = begun if self._last is None else max(begun, self._last)
        if now - last >= max(LINE, SHARE * (now - begun)):
            self._tell(", ".join(filter(None, (f"{task.name}: {amount(task)}", pace(task), left(task), task.note))))

    def report(self, task: Task, line: str) -> None:
        """The first line and the last, and those between that do not come too soon."""
        is_last = task.total is not None and task.done >= task.total
        if self._reported is None or is_last or self.clock() - self._reported >= LINE:
            self._reported = self.clock()
            self._tell("  ".join(filter(None, (line, left(task)))))

    def end(self, task: Task) -> None:
        """The next one begins anew."""
        del self._begun[task]

    def _tell(self, line: str) -> None:
        self._last = self.clock()
        self.say(line)


class Bars(Listener):
    """A bar for the innermost task, in one line; what is said goes above it.

    Args:
        stream: where to write.
        console: what draws; default: one for this stream.
    """

    shown: ClassVar[Bars | None] = None

    def __init__(self, stream: TextIO, console: Console | None = None) -> None:
        self._stream, self._given = stream, console
        self._tasks: list[Task] = []
        self._drawn: float | None = None

    def say(self, line: str) -> None:
        """A line above the bar."""
        self.clear()
        self._stream.write(clean(line) + "\n")
        self._draw()

    def begin(self, task: Task) -> None:
        """Show its bar."""
        self._tasks.append(task)
        self._draw()

    def advance(self, task: Task) -> None:
        """Draw the bar anew, unless that was done just now."""
        if self._drawn is None or self.clock() - self._drawn >= REDRAW:
            self._draw()

    def report(self, task: Task, line: str) -> None:
        """A line above the bar."""
        self.say("  ".join(filter(None, (line, left(task)))))

    def end(self, task: Task) -> None:
        """Take its bar away; the one of the task around it comes back."""
        self._tasks.remove(task)
        self.clear()
        if self._tasks:
            self._draw()

    def clear(self) -> None:
        """Take the bar away, for other lines; it comes back with the next advance."""
        if self._drawn is not None:
            blank = "\x1b[2K" if self._stream.isatty() else " " * self._console.width + "\r"
            self._stream.write("\r" + blank)
            self._stream.flush()
            self._drawn = Bars.shown = None

    def _draw(self) -> None:
        if not self._tasks:
            self._stream.flush()
            return
        with self._console.capture() as drawn:
            self._console.print(_bar(self._tasks))
        self._drawn, Bars.shown = self.clock(), self
        self._stream.write("\r" + drawn.get().rstrip("\n"))
        self._stream.flush()

    @property
    def _console(self) -> Console:
        if self._given is None:
            from rich.console import Console

            width = None if self._stream.isatty() else _NOTEBOOK_WIDTH
            self._given = Console(file=self._stream, force_terminal=True, force_jupyter=False, width=width)
        return self._given


def clear() -> None:
    """Take the bar away, if one is shown: something else is going to be written to the terminal."""
    if Bars.shown is not None:
        Bars.shown.clear()


def erase() -> None:
    """The same where nothing may be waited for, when the process is about to be ended."""
    if Bars.shown is not None:
        os.write(2, b"\r\x1b[2K")


def print_table(rows: Sequence[Sequence[str]], stream: TextIO, console: Console | None = None) -> None:
    """A table: the first row is the head, the first column is flush left; what is too wide for the terminal is folded."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for number, head in enumerate(rows[0]):
        table.add_column(Text(clean(head)), justify="right" if number else "left", overflow="fold")
    for row in rows[1:]:
        table.add_row(*(Text(clean(cell)) for cell in row))
    (console or Console(file=stream, force_terminal=True, force_jupyter=False)).print(table)


def amount(task: Task) -> str:
    """How much is done: ``1,200 of 5,000 images``, or ``24 %``; only how much where nobody knows the total."""
    if task.total is None:
        return f"{task.done:,.0f} {task.unit}" if task.unit else ""
    if not task.unit:
        return f"{100 * task.done / task.total:.0f} %" if task.total else "100 %"
    return f"{task.done:,.0f} of {task.total:,.0f} {task.unit}"


def pace(task: Task) -> str:
    """``120/s``; "" for what has no unit, or takes seconds each."""
    return f"{task.rate:,.0f}/s" if task.unit and task.rate is not None and task.rate >= 1 else ""


def left(task: Task) -> str:
    """``left 1:02``; "" where that cannot be known."""
    if task.left is None:
        return ""
    whole = round(task.left)
    hours = f"{whole // 3600}:{whole // 60 % 60:02}" if whole >= 3600 else f"{whole // 60}"
    return f"left {hours}:{whole % 60:02}"


def _bar(tasks: Sequence[Task]) -> RenderableType:
    """Names, bar, how much, what is left, and as much of the note as there is room for; of the last task, within the others."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    *around, task = tasks
    names = [*(f"{one.name} {amount(one)}".rstrip() for one in around), task.name]
    how = ", ".join(filter(None, (amount(task), pace(task))))
    bar = ProgressBar(total=task.total, completed=task.done, pulse=task.total is None, animation_time=task.done)
    cells: list[RenderableType] = [Text(clean(" · ".join(names))), bar, *map(Text, filter(None, (how, left(task))))]
    grid = Table.grid(padding=(0, 1), expand=True)
    for cell in cells:
        grid.add_column(ratio=1, min_width=10) if cell is bar else grid.add_column(no_wrap=True)
    if task.note:  # the first to be shortened
        grid.add_column()
        cells.append(Text(clean(task.note), no_wrap=True, overflow="ellipsis"))
    grid.add_row(*cells)
    return grid


def _is_notebook(stream: TextIO) -> bool:
    return type(stream).__module__.partition(".")[0] == "ipykernel"
