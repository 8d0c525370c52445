"""Ctrl-C and SIGTERM at any moment: one short line, status 130 or 143, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from command import slimnet_cli
from slimnet.errors import SlimnetWarning
from slimnet.training.signals import SignalWatch
from slimnet_cli import _app
from test_outputs import TRAIN

LINE = "slimnet: interrupted\n"
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
STRIKE = "os.kill(os.getpid(), signal.SIGINT)"

COMMAND = """
import hashlib, multiprocessing, os, signal, subprocess, sys, time
from pathlib import Path
import click
import slimnet_cli
from slimnet_cli import _interrupt
from slimnet.files import atomic_file, atomic_folder, scratch_folder
_interrupt.GRACE = 0.2
NUMBER = {number}

def strike():
    os.kill(os.getpid(), NUMBER)

class Dying:
    def __del__(self):
        strike()
        time.sleep(0.01)

def in_the_midst_of_writing(then):
    with atomic_folder(Path("o"), ours=()) as folder, atomic_file(Path("f")) as file, scratch_folder("test"):
        (folder / "x").touch()
        file.write(b"half")
        then()

@slimnet_cli.cli.command("test")
def test():
    {body}

sys.argv = ["slimnet", "test"]
slimnet_cli.main()
"""

# where it strikes → what the command does then
MOMENTS = {
    "it unwinds": "strike(); time.sleep(60)",
    "a library swallows it": """
    try:
        strike(); time.sleep(60)
    except BaseException:
        time.sleep(60)""",
    "a library makes another error of it": """
    try:
        strike(); time.sleep(60)
    except BaseException:
        raise RecursionError("maximum recursion depth exceeded")""",
    "a destructor": "Dying(); time.sleep(60)",
    "in writing": "in_the_midst_of_writing(lambda: (strike(), time.sleep(60)))",
    "in writing, swallowed": """
    def swallow():
        try:
            strike(); time.sleep(60)
        except BaseException:
            time.sleep(60)
    in_the_midst_of_writing(swallow)""",
    "in foreign code that does not return": """
    pid = os.getpid()
    def stuck():
        striker = subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -{NUMBER} {pid}"])
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    in_the_midst_of_writing(stuck)""",
    "twice": """
    try:
        strike(); time.sleep(60)
    finally:
        _interrupt.GRACE = 60
        strike(); time.sleep(60)""",
    "with a process of ours": """
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    Path("child").write_text(str(child.pid))
    strike(); time.sleep(60)""",
}


@pytest.mark.parametrize("number", WORDS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_it_ends_with_one_line_and_nothing_is_left(moment: str, number: int, here: Path) -> None:
    script = COMMAND.replace("{body}", MOMENTS[moment]).replace("{number}", str(int(number)))
    (here / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(here / "tmp")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=50, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", f"slimnet: {WORDS[number]}\n")
    assert list((here / "tmp").iterdir()) == []
    if moment == "with a process of ours":
        with pytest.raises(ProcessLookupError):
            os.kill(int((here / "child").read_text()), 0)
    assert {path.name for path in here.iterdir()} <= {"tmp", "child"}


def test_a_forked_process_of_a_library_can_be_ended_alone(here: Path) -> None:
    body = """
    def ended():
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        time.sleep(0.3)
        child.terminate()
        child.join()
        time.sleep(3 * _interrupt.GRACE)
        print(child.exitcode, sorted(path.name for path in Path().iterdir() if not path.name.startswith(".")))
    in_the_midst_of_writing(ended)"""
    script = COMMAND.replace("{body}", body).replace("{number}", str(int(signal.SIGTERM)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("-15 ")
    assert sorted(path.name for path in here.iterdir()) == ["f", "o"], "what the process above was writing"


@pytest.mark.parametrize("module", ["click", "slimnet_cli.train", "torch", "torch._C", "numpy.exceptions", "slimnet.training"])
def test_while_something_is_imported(module: str, here: Path) -> None:
    script = f"""
import os, signal, sys
def watch(event, arguments):
    if event == "import" and arguments[0] == {module!r}:
        {STRIKE}
sys.addaudithook(watch)
import slimnet_cli
sys.argv = ["slimnet", *{[*TRAIN.split(), "o"]!r}]
slimnet_cli.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", LINE)
    assert list(here.iterdir()) == []


def test_before_there_is_a_checkpoint_a_training_just_ends(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slimnet.training import engine

    def struck(*_: Any, **__: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(engine, "prepare", struck)
    done = slimnet_cli(*TRAIN.split(), "o")
    assert tuple(done) == (130, "", LINE)
    assert list(here.iterdir()) == []


def test_after_the_last_epoch_a_training_ends_and_can_be_resumed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slimnet.training import engine

    def struck(*_: Any, **__: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "write_result", struck)
        assert tuple(slimnet_cli(*TRAIN.split(), "o")) == (130, "", LINE)
    assert slimnet_cli("train", "--resume", "--quiet", "--out", "o").status == 0


TRAINING = """
import sys
import slimnet_cli
from slimnet_cli import _interrupt
from slimnet.training import loop
_interrupt.GRACE = 0.1
right = loop.Loop._step
def step(self, *arguments):
    import os, signal, time
    if self.state.step == 1:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)  # longer than others are given
    return right(self, *arguments)
loop.Loop._step = step
sys.argv = ["slimnet", *sys.argv[1:]]
slimnet_cli.main()
"""


def test_a_training_takes_the_time_that_its_checkpoint_needs(here: Path) -> None:
    command = [sys.executable, "-c", TRAINING, *TRAIN.split(), "o"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = "slimnet: stopped by SIGINT; the run can be resumed from o\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", said)
    assert slimnet_cli("train", "--resume", "--quiet", "--out", "o").status == 0


def test_the_second_signal_is_not_waited_for() -> None:
    with pytest.raises(KeyboardInterrupt), SignalWatch() as watch:
        signal.raise_signal(signal.SIGINT)
        assert watch.signum == signal.SIGINT
        signal.raise_signal(signal.SIGINT)


def test_in_the_background_of_a_shell_it_stays_ignored(here: Path) -> None:
    script = COMMAND.replace("{body}", "strike(); time.sleep(0.1); print('done')").replace("{number}", str(int(signal.SIGINT)))
    command = ["sh", "-c", f"trap '' INT; exec {sys.executable} -c \"$0\"", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_the_process_that_measures_memory_sees_no_interrupt(here: Path) -> None:
    script = """
import signal
from slimnet.measure.memory import _without_interrupts
with _without_interrupts():
    assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_warnings_of_ours_stand_on_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _app._show_warning(SlimnetWarning("a\nb"), SlimnetWarning, "table.py", 7)
    assert capsys.readouterr().err == "slimnet: warning: a\\nb\n"
    shown: list[Any] = []
    monkeypatch.setattr(_app, "_python_shows", lambda *given: shown.append(given[2:]))
    _app._show_warning(UserWarning("a"), UserWarning, "table.py", 7)
    assert shown == [("table.py", 7)]
