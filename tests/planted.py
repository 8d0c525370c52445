"""A command with a fault of each kind, for the harness of `benchmarks/robustness.py` to find. Run as a program: prints JSON.

    python tests/planted.py FOLDER BUNDLE

In a process of its own: the harness forks, which a process with threads must not.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # behind all others: a file there is called coverage.py

from hostile import bundles, judge, pictures, values
from hostile.cases import Record, attempt, must_end_well, simple
from hostile.given import Given
from hostile.judge import Fault
from hostile.sandbox import SECRET, Command, Limits, Outcome, Sandbox
from hostile.watch import LineCounter

__all__ = ["judge", "values"]
MIB = 1 << 20
LIMITS = Limits(seconds=10.0, memory=64 * MIB, address=512 * MIB, file=8 * MIB)


@dataclass(frozen=True)
class Planted:
    """What a command does wrong; all runs in the working folder, where ``x`` holds ``evil.py``."""

    kind: str
    call: Callable[[], object]
    output: str | None = None
    seconds: float = LIMITS.seconds
    more: Callable[[Outcome], Iterable[Fault]] = lambda outcome: ()


def _import(name: str) -> None:
    sys.path.insert(0, "x")
    importlib.import_module(name)


def _print(text: str) -> None:
    sys.stdout.write(text)


def _make(*names: str, then: int = 0) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    _print("made\n")
    os._exit(then)


def _native(path: str) -> None:
    """Read as ONNX Runtime would: nothing of Python sees it."""
    libc = ctypes.CDLL(None)
    ctypes.create_string_buffer(4)
    libc.close(libc.open(path.encode(), os.O_RDONLY))


def _bind() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))


def _stay() -> None:
    if os.fork() == 0:
        time.sleep(60)


def _fill() -> None:
    bytearray(200 * MIB)


def _raise(error: BaseException) -> None:
    raise error


def _exit_1(text: str = "") -> None:
    sys.stderr.write(text)
    os._exit(1)


PLANTED = {
    "it runs a module of the data": Planted("code", lambda: _import("evil")),
    "it runs a file of the data": Planted("code", lambda: exec(compile("1", str(Path("x/evil.py").absolute()), "exec"))),
    "it imports what only the data names": Planted("code", lambda: importlib.import_module("this_is_named_by_data")),
    "it writes the canary": Planted("code", lambda: Path("../CANARY").write_text("x")),
    "it starts a program": Planted("code", lambda: subprocess.run(["true"], check=True)),
    "it listens": Planted("code", _bind),
    "it ends in silence": Planted("code", lambda: sys.exit(0)),
    "it raises": Planted("traceback", lambda: _raise(KeyError("groups"))),
    "it never ends": Planted("hang", lambda: time.sleep(60), seconds=0.5),
    "it leaves a process": Planted("hang", _stay),
    "it fails with half of its output": Planted("half", lambda: _make("out/a", then=1), output="out"),
    "it ends well without its output": Planted("half", lambda: None, output="out"),
    "it leaves a temporary file": Planted("half", lambda: _make(".out.123.tmp")),
    "it leaves the old output aside": Planted("half", lambda: _make(".out.old/a", "out/a"), output="out"),
    "it changes what it was given": Planted("half", lambda: _make("x/more")),
    "it reads outside": Planted("outside", lambda: Path("../../outside/secret.txt").read_bytes()),
    "native code reads outside": Planted("outside", lambda: _native("../../outside/folder/secret.txt")),
    "it writes outside": Planted("outside", lambda: Path("../../outside/new").write_text("x")),
    "it writes elsewhere": Planted("outside", lambda: Path("/nowhere/x").mkdir()),
    "it prints what lies outside": Planted("outside", lambda: _print(SECRET.decode())),
    "it prints an escape": Planted("escape", lambda: _print("label \x1b]0;title\x07")),
    "it prints C1": Planted("escape", lambda: _print("label \x9b31m")),
    "it prints a forged line": Planted("escape", lambda: _print("label 99 %\nFORGED good.png")),
    "it exits with 7": Planted("status", lambda: os._exit(7)),
    "it aborts": Planted("status", os.abort),
    "it fails without a word": Planted("status", _exit_1),
    "it takes much": Planted("memory", _fill),
    "it fails on good input": Planted("wrong", lambda: _exit_1("no\n"), more=must_end_well),
}
HONEST = {
    "it ends well": Planted("", lambda: _make("out/a"), output="out"),
    "it fails with a line": Planted("", lambda: _exit_1("slimnet: error: no\n"), output="out"),
    "it reads what it was given": Planted("", lambda: Path("x/evil.py").read_text()),
}


def found(sandbox: Sandbox, name: str, planted: Planted) -> list[str]:
    """The kinds of faults that the harness sees."""
    work = sandbox.fresh()
    (work / "x").mkdir()
    (work / "x" / "evil.py").write_text("")
    command = Command(name, call=planted.call, output=planted.output, modules=frozenset({"this_is_named_by_data"}))
    limits = Limits(planted.seconds, LIMITS.memory, LIMITS.address, LIMITS.file)
    record = attempt(sandbox, command, untouched=("x",), limits=limits, more=planted.more)
    return sorted({fault["kind"] for fault in record["faults"]})


def killed_before_a_line(sandbox: Sandbox) -> list[tuple[int | None, list[str]]]:
    """Exit status and files of a command that writes two files: whole, and killed before each line around that."""
    command = Command("two files", call=two_files)
    sandbox.fresh()
    lines = sandbox.execute(command, counter=LineCounter(("planted.py",))).lines
    found = []
    for at in (*range(lines), None):
        work = sandbox.fresh()
        status = sandbox.execute(command, counter=LineCounter(("planted.py",), at)).status
        found.append((status, sorted(path.name for path in work.iterdir())))
    return found


def two_files() -> None:
    """Write them, one after the other."""
    first = Path("a")
    first.write_text("x")
    second = Path("b")
    second.write_text("x")


def cases(sandbox: Sandbox, bundle: Path) -> dict[str, list[tuple[int | None, list[str]]]]:
    """Exit status and kinds of faults of each command of a few real cases."""
    given = Given(bundle.parent, (), {})
    commands = [command for command in bundles.commands() if command.name in ("predict", "predict --json")]
    commands += [Command("verify", ("verify", "x", "--no-parity"))]
    tasks = [
        simple(bundles.PART, "good", bundles.lay_out(lambda b, o: None), commands),
        simple(bundles.PART, "cut", bundles.lay_out(bundles._text("model.json", b"{"), seal=False), commands),
        simple(bundles.PART, "without a network", bundles.lay_out(lambda b, o: (b / "model.onnx").unlink()), commands),
        pictures.case("text", "text.png", lambda path: path.write_bytes(b"no picture")),
    ]
    return {task.name: [_short(record) for record in task.run(sandbox, given)] for task in tasks}


def _short(record: Record) -> tuple[int | None, list[str]]:
    return record["status"], [fault["kind"] for fault in record["faults"]]


def main(folder: Path, bundle: Path) -> None:
    from hostile import alone

    assert alone
    sandbox = Sandbox(folder, LIMITS)
    value = {
        "planted": {name: found(sandbox, name, planted) for name, planted in (PLANTED | HONEST).items()},
        "killed": killed_before_a_line(sandbox),
    }
    import numpy
    import onnxruntime
    import PIL.Image

    assert numpy and onnxruntime and PIL
    sandbox = Sandbox(folder, Limits(seconds=60.0))
    print(json.dumps({**value, "cases": cases(sandbox, bundle)}))
    sandbox.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
