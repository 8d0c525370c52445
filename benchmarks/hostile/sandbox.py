"""A command in a forked child of this warm process: seconds of imports are paid once, and thousands of cases take minutes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hostile import ROOT
from hostile.watch import Guard, LineCounter, note_events

MIB = 1 << 20
TIME_LIMIT = 10  # seconds that a command allows its network: those that take for ever are not to take ten minutes each
SHOWN = 1 << 20  # the most of stdout and stderr that is looked at
SECRET = b"outside-secret-5f1d"
KNOWN = tuple(
    dict.fromkeys(
        f"{os.path.realpath(path)}/"
        for path in (
            sys.prefix,
            sys.base_prefix,
            sys.exec_prefix,
            ROOT,
            "/usr",
            "/lib",
            "/lib64",
            "/proc",
            "/sys",
            "/etc",
            "/dev",
        )
    )
)
"""What every command may read: Python, its packages, slimnet itself, the system."""


@dataclass(frozen=True)
class Limits:
    """What a command may take.

    Attributes:
        seconds: on the clock.
        memory: bytes of peak memory beyond what the warm process had; more is a fault.
        address: bytes of address space beyond that, at which allocation fails: it protects the machine.
        file: bytes of a file that it writes.
    """

    seconds: float = 60.0
    memory: int = 1024 * MIB
    address: int = 6144 * MIB
    file: int = 256 * MIB


@dataclass(frozen=True)
class Command:
    """A command line of slimnet, or a call in Python.

    Attributes:
        name: what to call it.
        argv: arguments of ``slimnet``, with paths that begin in the working folder.
        call: what to call instead; an error of slimnet's becomes a line and exit status 1, as on the command line.
        status_of: what to call instead, where it gives the exit status itself.
        output: the file or folder that it makes, if it ends well.
        modules: names that it must not import.
        speaks: whether it prints something when all is well.
        stdin: a file to read.
    """

    name: str
    argv: tuple[str, ...] = ()
    call: Callable[[], object] | None = None
    status_of: Callable[[], int] | None = None
    output: str | None = None
    modules: frozenset[str] = frozenset()
    speaks: bool = True
    stdin: str = os.devnull


@dataclass(frozen=True)
class Outcome:
    """What became of a command.

    Attributes:
        status: of its exit; negative: the signal it died of; None: it was killed after its time.
        memory: bytes of peak memory beyond what it started with.
        events: of `note_events`.
        outside: what was touched in the folder that belongs to nobody's case.
        stayed: whether a process of it went on after its end.
        lines: that a `LineCounter` counted.
    """

    status: int | None
    out: bytes
    err: bytes
    seconds: float
    memory: int
    events: list[list[str]] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    stayed: bool = False
    lines: int = 0


class Sandbox:
    """A place for one case at a time: ``work`` (the working directory), ``home``, ``tmp``; and ``outside``, which is off limits.

    Args:
        folder: where to make it; what lies there goes.
        limits: of every command.
    """

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder = folder.resolve()
        self.limits = limits or Limits()
        self.case = self.folder / "case"
        self.outside = self.folder / "outside"
        self.canary = self.case / "CANARY"
        shutil.rmtree(self.folder, ignore_errors=True)
        self._guard: Guard | None = None

    @property
    def work(self) -> Path:
        """The working directory of the commands."""
        return self.case / "work"

    def fresh(self) -> Path:
        """Empty folders for the next case, and ``outside`` as it is to be: the working directory."""
        if self._guard:
            self._guard.close()
        for folder in (self.case, self.outside):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.work, self.case / "home", self.case / "tmp", self.outside / "folder"):
            folder.mkdir(parents=True)
        for name in ("secret.txt", "secret.bin", "folder/secret.txt"):
            (self.outside / name).write_bytes(SECRET * 500)
        self._guard = None
        return self.work

    def close(self) -> None:
        """Remove everything."""
        if self._guard:
            self._guard.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def execute(
        self,
        command: Command,
        *,
        limits: Limits | None = None,
        counter: LineCounter | None = None,
        while_running: Callable[[int, float], None] | None = None,
    ) -> Outcome:
        """Run a command.

        Args:
            command: what to run.
            limits: others than the sandbox's.
            counter: kills it at a line, or counts lines.
            while_running: called every few milliseconds with its process id and the seconds since its start.
        """
        limits = limits or self.limits
        if self._guard is None:
            self._guard = Guard(self.outside)
        self._guard.seen()
        files = {name: self.case / f".{name}" for name in ("out", "err", "log", "lines")}
        for path in files.values():
            path.unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        base = _pages(1)  # what a child begins with
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _child(self, command, limits, files, counter)
        ended = _wait(pid, start, limits.seconds, while_running)
        if not ended:
            _kill_group(pid)
        _, code, usage = os.wait4(pid, 0)
        seconds = time.monotonic() - start
        stayed = _kill_group(pid)
        lines = int(files["lines"].read_text()) if files["lines"].exists() else 0
        return Outcome(
            status=os.waitstatus_to_exitcode(code) if ended else None,
            out=_head(files["out"]),
            err=_head(files["err"]),
            seconds=seconds,
            memory=max(0, usage.ru_maxrss * 1024 - base),
            events=[json.loads(line) for line in _head(files["log"], 64 * MIB).splitlines() if line.endswith(b"]")],
            outside=self._guard.seen(),
            stayed=stayed,
            lines=lines,
        )


def _pages(field: int) -> int:
    """Bytes of this process: its address space (0) or its memory (1)."""
    return int(Path("/proc/self/statm").read_text().split()[field]) * os.sysconf("SC_PAGE_SIZE")


def _wait(pid: int, start: float, seconds: float, while_running: Callable[[int, float], None] | None) -> bool:
    """Whether the process ended in its time."""
    fd = os.pidfd_open(pid)
    try:
        while (passed := time.monotonic() - start) < seconds:
            step = 0.002 if while_running else seconds - passed
            if select.select([fd], [], [], step)[0]:
                return True
            if while_running:
                while_running(pid, time.monotonic() - start)
        return False
    finally:
        os.close(fd)


def _kill_group(pid: int) -> bool:
    """Whether there was something of the group left to kill."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _head(path: Path, size: int = SHOWN) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        return file.read(size)


def _child(sandbox: Sandbox, command: Command, limits: Limits, files: dict[str, Path], counter: LineCounter | None) -> None:
    """Never returns."""
    status = 70
    try:
        os.setsid()
        _enter(sandbox, command, limits, files)
        _renew_threads()
        log = os.open(files["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        modules = command.modules - set(sys.modules)
        note_events(log, root=f"{sandbox.case}/", modules=modules, known=KNOWN)
        if counter:
            counter.start()
        status = _main(command)
        if counter:
            counter.stop()
            files["lines"].write_text(str(counter.count))
    except BaseException:
        sys.settrace(None)
        with contextlib.suppress(BaseException):
            traceback.print_exc()
        status = 1
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _enter(sandbox: Sandbox, command: Command, limits: Limits, files: dict[str, Path]) -> None:
    """Streams, environment and limits of the child."""
    for number, path in ((1, files["out"]), (2, files["err"])):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(sandbox.work)
    stdin = os.open(command.stdin, os.O_RDONLY)
    os.dup2(stdin, 0)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True
    )
    home = sandbox.case / "home"
    os.environ |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "TMPDIR": str(sandbox.case / "tmp")}
    os.environ |= {"NO_COLOR": "1", "COLUMNS": "120"}
    tempfile.tempdir = None
    sys.dont_write_bytecode = True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (_pages(0) + limits.address,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _renew_threads() -> None:
    """Torch makes its pool of threads anew behind a fork: two threads that ask for it at once abort the process."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(torch.get_num_threads())


def _main(command: Command) -> int:
    try:
        if command.call is not None:
            return _called(command.call)
        if command.status_of is not None:
            return command.status_of()
        return run_cli(command.argv)
    except SystemExit as end:  # as the interpreter would
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1


def run_cli(argv: Sequence[str]) -> int:
    """The exit status of a command of slimnet's; networks may take `TIME_LIMIT` seconds where it has such an option."""
    from slimnet_cli import _run, cli

    command = cli.commands.get(argv[0])
    limited = command is not None and any("--time-limit" in parameter.opts for parameter in command.params)
    return _run([*argv, "--time-limit", str(TIME_LIMIT)] if limited else list(argv))


def _called(function: Callable[[], object]) -> int:
    from slimnet.errors import SlimnetError

    try:
        function()
    except SlimnetError as error:
        sys.stderr.write(f"slimnet: error: {error}\n")
        return 1
    sys.stdout.write("done\n")
    return 0


def warm(modules: Sequence[str]) -> None:
    """Import what the commands will, once, and let torch fill the tables that its exporters keep; no session of ONNX Runtime."""
    import importlib

    import torch

    torch.set_num_threads(1)
    for name in modules:
        with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
            importlib.import_module(name)


def warm_exporters() -> None:
    """Export one small network, as `slimnet export` will."""
    import torch

    import slimnet

    model, images = slimnet.build_model("resnet8", num_classes=2, in_channels=1).eval(), torch.zeros(2, 1, 8, 8)
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        slimnet.channel_groups(model, images)
        torch.onnx.export(model, (images,), dynamo=True, external_data=False, verbose=False)
