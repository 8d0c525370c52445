"""What a command does to the world, noted from inside its process (audit events) and from outside (inotify)."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any

_PATHS = {  # event → places of paths among its arguments that are written
    **{"os.remove": (0,), "os.rmdir": (0,), "os.mkdir": (0,), "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,)},
    **{"os.rename": (0, 1), "os.symlink": (1,), "os.link": (0, 1), "os.utime": (0,), "shutil.rmtree": (0,)},
}
_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"}
_NETWORK = {"socket.bind", "socket.connect", "socket.sendto", "webbrowser.open"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def note_events(log: int, *, root: str, modules: Collection[str], known: tuple[str, ...]) -> None:
    """Write a line of JSON to ``log`` for every event that could matter, for the rest of this process.

    Args:
        log: an open file.
        root: the folder of the case: code in a file below it must not run.
        modules: names that must not be imported.
        known: folders of Python and its packages, whose files may be read.
    """

    def write(kind: str, *what: Any) -> None:
        os.write(log, json.dumps([kind, *(_text(each) for each in what)]).encode() + b"\n")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, int):
                written = bool((flags or 0) & _WRITES)
                if written or not _text(path).startswith(known):
                    write("write" if written else "read", _absolute(path))
        elif event == "exec":
            file = getattr(arguments[0], "co_filename", "")
            if file.startswith(root):
                write("exec", file)
        elif event in _PATHS:
            for place in _PATHS[event]:
                if not isinstance(arguments[place], int):
                    write("write", _absolute(arguments[place]))
        elif event in _PROGRAMS:
            write("program", arguments[0], arguments[1] if len(arguments) > 1 else "")
        elif event in _NETWORK:
            write("network", event, arguments[-1])

    sys.addaudithook(hook)
    sys.meta_path.insert(0, _Finder(lambda name: write("import", name), modules))


class _Finder:
    """Finds no module, and tells of those that are looked for: `importlib.import_module` raises no audit event."""

    def __init__(self, tell: Callable[[str], object], modules: Collection[str]) -> None:
        self._tell, self._modules = tell, modules

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in self._modules:
            self._tell(name)


def _text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, str | bytes | os.PathLike) else str(value)


def _absolute(path: Any) -> str:
    text = _text(path)
    return os.path.abspath(text)  # noqa: PTH100 - Path.absolute keeps "..", and links must not be followed


class LineCounter:
    """Counts the lines that are run in some files around what they do to the disk, and kills the process at one of them.

    Tracing slows everything down. So it begins with an audit event (a file is opened, a folder made …) that has a function of
    these files above it, and ends when that function returns.

    Args:
        places: parts of the files' names: a folder of slimnet, or a file.
        at: the line, from 0, before which the process dies; None to count only.
        leave: names of functions whose own lines do not count: those that do long work between two files.
    """

    _EVENTS = ("open", "os.", "tempfile.", "shutil.", "ctypes.", "fcntl.")

    def __init__(self, places: tuple[str, ...], at: int | None = None, leave: tuple[str, ...] = ()) -> None:
        self.places, self.at, self.leave, self.count = places, at, leave, 0
        self._outermost: FrameType | None = None
        self._thread = threading.get_ident()

    def start(self) -> None:
        """From now on, in this thread."""
        sys.addaudithook(self._see)

    def stop(self) -> None:
        """Count no more."""
        self._thread = 0
        sys.settrace(None)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._outermost is not None or not event.startswith(self._EVENTS) or threading.get_ident() != self._thread:
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if self._is_ours(frame):
                frame.f_trace = self._line
                self._outermost = frame
            frame = frame.f_back
        if self._outermost is not None:
            sys.settrace(self._call)

    def _is_ours(self, frame: FrameType) -> bool:
        code = frame.f_code
        return code.co_name not in self.leave and any(place in code.co_filename for place in self.places)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if self._is_ours(frame) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1
        elif event == "return" and frame is self._outermost:
            self._outermost = None
            sys.settrace(None)
        return self._line


class Guard:
    """Tells when anybody, native code too, opens or changes something in a folder. Linux only; elsewhere it sees nothing."""

    _MASK = 0x20 | 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200  # opened, modified, attributes, moved, created, deleted
    _HEAD = struct.Struct("iIII")

    def __init__(self, folder: Path) -> None:
        self._fd, self._names = -1, dict[int, str]()
        if sys.platform != "linux":
            return
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for path in (folder, *(each for each in folder.rglob("*") if each.is_dir())):
            watch = libc.inotify_add_watch(self._fd, os.fsencode(path), self._MASK)
            self._names[watch] = str(path)

    def seen(self) -> list[str]:
        """Names of what was touched since it was last asked."""
        found = set()
        while self._fd >= 0:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                break
            while data:
                watch, mask, _, length = self._HEAD.unpack_from(data)
                name = data[self._HEAD.size : self._HEAD.size + length].rstrip(b"\0").decode(errors="replace")
                data = data[self._HEAD.size + length :]
                if name and not mask & 0x40000000:  # to list a folder is not to read what lies in it
                    found.add(f"{self._names.get(watch, '')}/{name}")
        return sorted(found)

    def close(self) -> None:
        """Look no longer."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
