"""What long work tells of itself, and how it is shown: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from listeners import Heard, Terminal
from slimnet import terminal
from slimnet.progress import NOBODY, Listener, Task, each, listener, listening, say_from
from slimnet.terminal import Bars, Lines, is_live, on, print_table
from slimnet_cli import _emit


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


class TimedBars(Bars):
    clock = CLOCK


class TimedLines(Lines):
    clock = CLOCK


def bars(width: int = 100) -> tuple[Terminal, TimedBars]:
    stream = Terminal()
    return stream, TimedBars(stream, Console(file=stream, force_terminal=True, width=width, no_color=True))


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


# --- tasks ----------------------------------------------------------------------------------------------------------------


def test_nobody_is_told_unless_somebody_listens() -> None:
    assert listener() is NOBODY
    with listening(Heard()) as heard:
        assert listener() is heard
        assert list(each("ab", "spelling", 2, "letters")) == ["a", "b"]
    assert listener() is NOBODY
    assert heard.shares == [("spelling", 1, 2), ("spelling", 2, 2)]
    assert heard.finished() == {"spelling": True}


def test_what_is_broken_off_is_not_done() -> None:
    with listening(Heard()) as heard:
        with pytest.raises(KeyboardInterrupt), Task("failing", 3):
            raise KeyboardInterrupt
        for _ in each(range(9), "leaving", 9):
            break
        with Task("several parts", 3) as task:
            task.advance()
    assert heard.finished() == {"failing": False, "leaving": False, "several parts": True}


def test_the_time_left_is_by_what_was_done_since_it_began() -> None:
    with listening(TimedLines(io.StringIO())), Task("training", 400, done=100) as task:
        assert task.left is None
        CLOCK.now += 30
        task.advance(100)
        assert (task.rate, task.left) == (100 / 30, 60.0)
        task.reach(400)
        assert task.left == 0


def test_a_note_is_made_only_where_it_is_shown() -> None:
    made = iter(range(9))
    stream, shown = bars()
    with listening(shown), Task("training", 400) as task:
        task.advance(1, lambda: f"note {next(made)}")  # the bar was drawn just now
        CLOCK.now += 1
        task.advance(1, lambda: f"note {next(made)}")
        task.report("an epoch")  # at the end of an epoch there is nothing that could be asked for
    assert next(made) == 1
    assert stream.getvalue().count("note 0") == 2


def test_lines_go_to_the_logger_of_their_room(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="slimnet"), listening(Heard()) as heard:
        say_from("slimnet.training.heads")("100 % of \x1b[31mred\nforged")
    assert [(one.name, one.getMessage()) for one in caplog.records] == [("slimnet.training", "100 % of \\x1b[31mred\\nforged")]
    assert heard.lines == ["100 % of \x1b[31mred\nforged"]
    assert [type(one) for one in logging.getLogger("slimnet").handlers] == [logging.NullHandler]


# --- a terminal -----------------------------------------------------------------------------------------------------------


def test_a_terminal_shows_a_bar_with_the_time_left() -> None:
    stream, shown = bars()
    with listening(shown), Task("calibrating", 400, "images") as task:
        CLOCK.now += 30
        task.advance(100)
    *_, last, blank = stream.getvalue().split("\r")
    assert re.fullmatch(r"calibrating ━+[╸╺]? +100 of 400 images, 3/s left 1:30 *", plain(last))
    assert len(plain(last)) == 100
    assert blank == "\x1b[2K"


def test_a_bar_is_drawn_now_and_then() -> None:
    stream, shown = bars()
    with listening(shown), Task("stepping", 1000) as task:
        for _ in range(1000):
            CLOCK.now += 0.01
            task.advance()
    assert 15 < stream.getvalue().count("stepping") < 25


def test_what_is_said_stands_above_the_bar() -> None:
    stream, shown = bars()
    with listening(shown), Task("training", 4) as task:
        shown.say("halfway")
        task.report("epoch 1/2")
    lines = [line.split("\r")[-1] for line in stream.getvalue().split("\n")]
    assert [plain(line) for line in lines] == ["halfway", "epoch 1/2", ""]


def test_a_task_within_another_shows_both() -> None:
    stream, shown = bars()
    with listening(shown), Task("choosing widths", 4, "rounds") as rounds:
        rounds.advance()
        with Task("measuring", 10) as task:
            CLOCK.now += 1
            task.advance(5)
    text = plain(stream.getvalue())
    assert re.search(r"choosing widths 1 of 4 rounds · measuring ━+[╸╺]? +50 % left 0:01", text)
    assert text.rsplit("choosing widths", 1)[1].startswith(" ━")  # that of the rounds has come back


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_bar_is_one_line_of_any_terminal(width: int) -> None:
    stream, shown = bars(width)
    with listening(shown), Task("a rather long name of what is being done", 400, "images") as task:
        CLOCK.now += 30
        task.advance(100, lambda: "lr 0.1  loss 0.1234  and more" * 9)
    assert "\n" not in stream.getvalue()
    assert all(len(plain(drawn)) <= width for drawn in stream.getvalue().split("\r"))


ODD = "[red]x[/red] \x1b[31m\nforged"
SHOWN = "[red]x[/red] \\x1b[31m\\nforged"


@pytest.mark.parametrize("kind", [Bars, Lines])
def test_what_came_from_data_is_text(kind: type[Bars | Lines]) -> None:
    stream, shown = bars(200) if kind is Bars else (Terminal(), TimedLines(Terminal()))
    if kind is Lines:
        shown = TimedLines(stream)
    with listening(shown), Task(ODD, 4) as task:
        CLOCK.now += 60
        task.advance(1, lambda: ODD)
        shown.say(ODD)
        task.report(ODD)
    text = stream.getvalue()
    assert text.count(SHOWN) >= 3 and "\x1b[31m" not in text and "\nforged" not in text


def test_a_table_on_a_terminal_is_text_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    print_table([("class", "accuracy"), (ODD, "91 %"), ("日本", "7 %")], stream, Console(file=stream, width=60))
    head, rule, red, cjk = stream.getvalue().splitlines()
    assert SHOWN in red and red.endswith("91 %") and "\x1b" not in stream.getvalue()
    assert head.startswith("class") and set(rule) == {"─"}
    assert len(cjk) + 2 == len(red)  # two wide characters


def test_a_table_is_fitted_to_a_terminal_and_one_line_a_row_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("run", "best epoch", "val accuracy"), ("a/very/long/path/" * 4, "3 of 4", "91.00 %")]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "50")
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        _emit.emit_table(rows)
        lines = stream.getvalue().splitlines()
        is_terminal = isinstance(stream, Terminal)
        assert (max(map(len, map(plain, lines))) <= 50) == is_terminal
        assert (len(lines) == 3) == (not is_terminal)


def test_no_color_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> str:
        stream = Terminal()
        with listening(TimedBars(stream)), Task("stepping", 4):
            pass
        return stream.getvalue()

    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]|\x1b\[9[0-9]")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert re.search(r"\x1b\[[0-9;]+m", drawn())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(drawn())


@pytest.mark.parametrize(("term", "expected"), [("xterm", Bars), ("dumb", Lines)])
def test_a_terminal_that_cannot_go_back_gets_lines(term: str, expected: type[Listener], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    assert type(on(Terminal())) is expected
    assert is_live(Terminal()) is (expected is Bars)
    assert type(on(io.StringIO())) is Lines


def test_a_notebook_shows_the_same_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    shown = on(out)
    assert type(shown) is Bars
    with listening(shown), Task("stepping", 4) as task:
        shown.say("a line")
        task.advance()
    drawn = plain(out.getvalue()).split("\r")
    assert "\x1b[2K" not in out.getvalue()  # which notebooks do not know
    assert any(part.startswith("stepping ━") and len(part) == 100 for part in drawn)
    assert drawn[-2:] == [" " * 100, ""]


# --- a file or a pipe -----------------------------------------------------------------------------------------------------


def told(seconds: float, every: float, act: Callable[[Task], None]) -> list[str]:
    """Lines about a task that goes on for so long."""
    stream = io.StringIO()
    CLOCK.now = 0.0  # eighths add up without rounding, whatever ran before
    with listening(TimedLines(stream)), Task("predicting", seconds / every, "images") as task:
        for _ in range(round(seconds / every)):
            CLOCK.now += every
            act(task)
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()
    return stream.getvalue().splitlines()


def test_elsewhere_there_are_plain_lines_a_few_a_minute() -> None:
    lines = told(60, 0.125, Task.advance)
    assert len(lines) == 4
    assert lines[0] == "predicting: 120 of 480 images, 8/s, left 0:45"
    assert 20 < len(told(3600, 1, Task.advance)) < 60
    assert told(10, 0.1, Task.advance) == []  # nothing is told of what is done soon


def test_elsewhere_epochs_are_reported_unless_they_are_very_short() -> None:
    def epoch(task: Task) -> None:
        task.advance()
        task.report(f"epoch {task.done:.0f}")

    long = [line for line in told(100 * 60, 60, epoch) if line.startswith("epoch")]
    assert long[1] == "epoch 2  left 1:38:00" and len(long) == 100
    short = told(60, 0.5, epoch)
    assert (short[0], short[-1]) == ("epoch 1  left 1:00", "epoch 120  left 0:00") and len(short) <= 10


# --- the commands ---------------------------------------------------------------------------------------------------------


def test_the_first_line_of_a_command_imports_no_rich() -> None:
    script = """
import io, sys
from slimnet_cli import _run
status = _run(["inspect", "no.pth", "--model", "resnet8"])
print(status, [name for name in ("rich",) if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1 []\n" and "no.pth" in done.stderr


STRUCK = """
import os, signal, sys, time
from slimnet_cli import _app, _interrupt
from slimnet_cli.inspect import command
from slimnet.progress import Task
import slimnet_cli
def body(**_):
    with Task("working", 10) as task:
        task.advance()
        {body}
command.callback = body
sys.argv = ["slimnet", "inspect", "here", "--model", "x"]
open("here", "w").close()
slimnet_cli.main()
"""


@pytest.mark.parametrize(
    ("body", "struck"),
    [
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", signal.SIGINT),
        ("""
        try:
            os.kill(os.getpid(), signal.SIGINT); time.sleep(60)
        except BaseException:
            time.sleep(60)""", signal.SIGINT),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", signal.SIGTERM),
    ],
    ids=["unwinds", "is swallowed", "SIGTERM"],
)  # fmt: skip
def test_a_signal_during_a_bar_leaves_the_terminal_in_order(body: str, struck: int, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", STRUCK.replace("{body}", body)], stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            shown += part
            if not part:
                break
        assert process.wait(60) == 128 + struck
        assert process.stdout is not None and process.stdout.read() == b""
    os.close(ours)
    text = shown.decode()
    assert "working" in text and "━" in text
    assert "\x1b[?25l" not in text  # the cursor is never hidden, so nothing can leave it so
    word = "interrupted" if struck == signal.SIGINT else "terminated"
    assert text.rsplit("\r\x1b[2K", 1)[-1].replace("\r", "") == f"slimnet: {word}\n"


def test_other_lines_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, shown = bars()
    monkeypatch.setattr(sys, "stderr", stream)
    with listening(shown), Task("working", 4):
        _emit.say("a warning")
        assert stream.getvalue().endswith("\r\x1b[2Ka warning\n")
        terminal.clear()
        assert stream.getvalue().endswith("a warning\n")
