"""What is wrong with the outcome of a command."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hostile.sandbox import KNOWN, MIB, SECRET, Command, Limits, Outcome, Sandbox

KINDS = {
    "code": "code of the data ran",
    "traceback": "a traceback",
    "hang": "not over in its time",
    "half": "half-written output, or something left behind",
    "outside": "a read or write outside",
    "escape": "control characters, or a forged line, on the terminal",
    "status": "an exit status other than 0, 1, 2, 130, 143, or a failure without a line",
    "memory": "too much memory",
    "wrong": "a wrong result in silence",
}
"""Every kind of fault, and what it means."""

STATUSES = (0, 1, 2, 130, 143)
FORGED = "FORGED"
"""Labels and names of the cases hold a line that begins with it; no line on the terminal may."""

_TRACEBACK = re.compile(rb"^Traceback \(most recent call last\)|^Exception (?:ignored )?in ", re.MULTILINE)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LEFT = re.compile(r"^\.(?:.*\.(?:tmp|old)|slimnet\..*|.*\.tmp.*)$|\.tmp$")


@dataclass(frozen=True)
class Fault:
    """What is wrong.

    Attributes:
        kind: one of `KINDS`.
        detail: a line.
    """

    kind: str
    detail: str


def faults(sandbox: Sandbox, command: Command, outcome: Outcome, limits: Limits) -> Iterator[Fault]:
    """All that is wrong with how a command ended, but for what only its case can tell."""
    yield from _code(sandbox, outcome)
    yield from _outside(sandbox, outcome)
    text = {name: data.decode(errors="replace") for name, data in (("stdout", outcome.out), ("stderr", outcome.err))}
    traceback = _TRACEBACK.search(outcome.err)
    if outcome.status is None:
        yield Fault("hang", f"killed after {limits.seconds:.0f} s")
    elif traceback:
        yield Fault("traceback", _end_of_traceback(text["stderr"]))
    elif outcome.status not in STATUSES:
        yield Fault("status", f"exit status {outcome.status}: {_last(text['stderr'])}")
    elif outcome.status == 1 and not text["stderr"].strip():
        yield Fault("status", "exit status 1 and not a word")
    elif outcome.status == 0 and command.speaks and not text["stdout"].strip():
        yield Fault("code", "exit status 0 and not a word: something else than slimnet ended it")
    if outcome.stayed:
        yield Fault("hang", "a process of it went on after its end")
    if outcome.memory > limits.memory:
        yield Fault("memory", f"{outcome.memory // MIB:,} MiB")
    for name, value in text.items():
        if not traceback:
            yield from _escapes(name, value)
        if SECRET.decode() in value:
            yield Fault("outside", f"what lies outside is on {name}")


def output_faults(sandbox: Sandbox, command: Command, outcome: Outcome, kept: dict[str, bytes] | None = None) -> Iterator[Fault]:
    """Whether the output is there if and only if the command ended well, and nothing lies about; a killed one may leave more.

    Args:
        sandbox: where it ran.
        command: what ran.
        outcome: what became of it.
        kept: contents of an old output, which a failure must leave as it was.
    """
    left = [str(path.relative_to(sandbox.work)) for path in walk(sandbox.work) if _LEFT.search(path.name)]
    if left and outcome.status is not None and outcome.status >= 0:
        yield Fault("half", f"left behind: {', '.join(left[:3])}")
    if command.output is None:
        return
    path = sandbox.work / command.output
    there = path.exists() or path.is_symlink()
    if outcome.status == 0 and not there:
        yield Fault("half", f"exit status 0, and no {command.output}")
    if outcome.status != 0 and kept is None and there:
        yield Fault("half", f"exit status {outcome.status}, and there is a {command.output}")
    if outcome.status != 0 and kept is not None and contents(path) != kept:
        yield Fault("half", f"exit status {outcome.status}, and the old {command.output} is not as it was")
    for file in walk(path):
        if file.is_symlink():
            yield Fault("outside", f"{file.relative_to(sandbox.work)} of the output is a link")
        elif file.is_file() and file.stat().st_size < 64 * MIB and SECRET in file.read_bytes():
            yield Fault("outside", f"what lies outside was copied into {file.relative_to(sandbox.work)}")


def walk(path: Path) -> list[Path]:
    """A file, or all that is below a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return [path] if path.exists() or path.is_symlink() else []
    return sorted(path.rglob("*"))


def contents(path: Path) -> dict[str, bytes]:
    """Name → bytes of every file below a folder."""
    return {str(each.relative_to(path)): each.read_bytes() for each in walk(path) if each.is_file() and not each.is_symlink()}


def state(path: Path) -> dict[str, tuple[int, ...]]:
    """What shows whether anything in a folder was changed."""
    found = {}
    for each in walk(path):
        about = each.lstat()
        found[str(each.relative_to(path))] = (about.st_mode, about.st_size, about.st_mtime_ns, about.st_ino)
    return found


def _code(sandbox: Sandbox, outcome: Outcome) -> Iterator[Fault]:
    if sandbox.canary.exists():
        sandbox.canary.unlink()
        yield Fault("code", "code of the data wrote the canary")
    for kind, *what in outcome.events:
        name = what[0].replace(str(sandbox.case), "")
        if kind == "exec":
            yield Fault("code", f"ran {name}")
        elif kind == "import":
            yield Fault("code", f"imported {name}, which only the data names")
        elif kind == "network" and not what[1].startswith(f"{sandbox.case}/") and what[1] != "":
            yield Fault("code", f"{name} {what[1]}")
        elif kind == "program" and Path(what[0]).resolve() != Path(sys.executable).resolve() and not _innocent(what[0]):
            yield Fault("code", f"started {name} {what[1][:80]}")


def _innocent(program: str) -> bool:
    """What libraries ask of the system when they are loaded."""
    return Path(program).name in {
        "uname",
        "lscpu",
        "ldconfig",
        "gcc",
        "cc",
        "c++",
        "g++",
        "ld",
        "file",
        "lsb_release",
    }


def _outside(sandbox: Sandbox, outcome: Outcome) -> Iterator[Fault]:
    own = f"{sandbox.case}/"
    for path in outcome.outside:
        yield Fault("outside", f"touched {path.replace(str(sandbox.folder), '')}")
    for kind, *what in outcome.events:
        path = f"{what[0]}"
        if kind == "write" and not f"{path}/".startswith(own) and not path.startswith(("/dev/null", "/dev/shm/", "/proc/")):
            yield Fault("outside", f"wrote {path}")
        elif kind == "read" and not f"{path}/".startswith(own) and not path.startswith(KNOWN):
            yield Fault("outside", f"read {path}")


def _escapes(name: str, text: str) -> Iterator[Fault]:
    clean = text.replace("\r\n", "\n").replace("\r", "\n") if name == "stderr" else text  # progress begins its line again
    found = _CONTROL.search(clean)
    if found:
        yield Fault("escape", f"{found[0]!r} on {name}: {clean[max(0, found.start() - 40) : found.end() + 10]!r}")
    elif re.search(rf"^\s*{FORGED}", text, re.MULTILINE):
        yield Fault("escape", f"a forged line on {name}")


def _end_of_traceback(text: str) -> str:
    """Where of slimnet it was raised, and what."""
    places = re.findall(r'File "[^"]*/(?:slimnet|cli/slimnet_cli)/([^"]+)", line (\d+)', text)
    line = _last(text)
    return f"{line} (at {places[-1][0]}:{places[-1][1]})" if places else line


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(" ")]
    return " ".join(lines[-1].split())[:200] if lines else ""


def forget(path: Path) -> None:
    """Remove an output, whatever it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
