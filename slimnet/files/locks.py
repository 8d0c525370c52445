"""Who writes where: locks that are gone with their process. The façade over filelock."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slimnet.errors import ArgumentError

_RECORD = re.compile(r"(?P<pid>\d{1,10}) (?P<host>[\w.-]{1,255}) (?P<since>[\dTZ:-]{10,32})\n")
_READ = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_LOOKS, _PAUSE = 5, 0.05  # seconds
_held: dict[Path, tuple[int, int]] = {}  # of this process: thread and descriptor


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file until it is closed: whether we have it; None where the file system has no locks."""
    from filelock import lock_descriptor

    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        return None


def is_locked(path: Path) -> bool:
    """Whether somebody locks a file; True where that cannot be told."""
    try:
        descriptor = os.open(path, _READ)
    except OSError:
        return True
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def refuse_if_held(lock: Path, target: Path) -> None:
    """Raise if another writes ``target``.

    Raises:
        ArgumentError: saying who, and since when.
    """
    if lock in _held and _held[lock][0] == threading.get_ident():
        return
    with suppress(OSError):
        descriptor = os.open(lock, _READ)
        try:
            _require(descriptor, target)
        finally:
            os.close(descriptor)


@contextmanager
def hold(lock: Path, target: Path) -> Iterator[None]:
    """Keep others from writing ``target``; a thread that holds it already may do so again.

    Args:
        lock: the file that says who holds it, in a folder that exists; removed at the end.
        target: what is being written.

    Raises:
        ArgumentError: if another holds it, saying who, and since when.
        OSError: if the file cannot be made.
    """
    if lock in _held and _held[lock][0] == threading.get_ident():
        yield
        return
    try:
        _acquire(lock, target)
        yield
    finally:
        if lock in _held:
            with suppress(OSError):
                lock.unlink()
            os.close(_held.pop(lock)[1])


def drop_locks() -> None:
    """Remove the files of all locks of this process: just before it ends without unwinding."""
    for lock in list(_held):
        with suppress(OSError):
            lock.unlink()


def _acquire(lock: Path, target: Path) -> None:
    while lock not in _held:
        descriptor = os.open(lock, _READ | os.O_CREAT, 0o666)
        try:
            _require(descriptor, target)
            if os.fstat(descriptor).st_nlink:  # or else the one before us removed it meanwhile
                _held[lock] = threading.get_ident(), descriptor
                os.ftruncate(descriptor, 0)
                os.write(descriptor, _record().encode())
        except KeyboardInterrupt:
            if try_lock(descriptor):
                lock.unlink(missing_ok=True)
            raise
        finally:
            if lock not in _held:
                os.close(descriptor)


def _require(descriptor: int, target: Path) -> None:
    """Lock an open file, or say who has locked it: somebody who only looks lets go at once."""
    for _ in range(_LOOKS):
        if try_lock(descriptor) is not False:
            return
        time.sleep(_PAUSE)
    raise _busy(descriptor, target)


def _record() -> str:
    host = re.sub(r"[^\w.-]", "-", socket.gethostname()) or "unknown"
    return f"{os.getpid()} {host} {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\n"


def _busy(descriptor: int, target: Path) -> ArgumentError:
    try:
        found = _RECORD.fullmatch(os.pread(descriptor, 512, 0).decode("ascii", "replace"))
    except OSError:
        found = None
    who = f"process {found['pid']} on {found['host']} since {found['since']}" if found else "another process"
    return ArgumentError(f"{target} is being written by {who}: wait, or choose another output.")


def _let_go() -> None:
    """In a forked process: a lock is not to outlive the process that took it."""
    for _, descriptor in _held.values():
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
