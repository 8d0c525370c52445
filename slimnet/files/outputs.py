"""Output folders: checked before any work is done for them, held by one process at a time, written whole or not at all."""

from __future__ import annotations

import ctypes
import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from slimnet.errors import ArgumentError
from slimnet.files.locks import hold, refuse_if_held
from slimnet.files.writing import OURS, explaining, remove, removing, sweep, temporary_name, temporary_of

P = ParamSpec("P")
T = TypeVar("T")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>


@contextmanager
def atomic_folder(path: Path, *, ours: Collection[str], force: bool = False) -> Iterator[Path]:
    """Give a temporary folder; rename it to ``path`` on success, remove it on failure.

    Args:
        path: the folder to make.
        ours: the names that an old folder may hold; whatever else lies in it would be lost.
        force: replace an old folder.

    Raises:
        ArgumentError: as :func:`claim_folder`.
        WriteError: if the system refuses.
    """
    with claim_folder(path, ours=ours, force=force):
        temporary = temporary_name(path.resolve())
        with explaining(path, within=temporary), removing(temporary):
            temporary.mkdir()
            yield temporary
            _put(temporary, path.resolve())


@contextmanager
def claim_folder(path: Path, *, ours: Collection[str] | None, force: bool = False) -> Iterator[None]:
    """Be the only process that writes the folder ``path``: from before the work for it to its end.

    What an earlier process left behind when it was killed is put right first: if it ended between the renames of the old folder
    and of the new one, the old one is put back.

    Raises:
        ArgumentError: as :func:`check_output`; or if another process is writing it.
        WriteError: if the system refuses.
    """
    check_free(path)
    check_output(path, force=force, ours=ours)
    full = path.resolve()
    with _held(path, full.parent, _lock_beside(full)):
        _recover(full)
        check_output(path, force=force, ours=ours)
        yield


@contextmanager
def claim_run(path: Path) -> Iterator[None]:
    """Be the only process that writes into the folder ``path``; it is made, and unmade if nothing came to lie in it.

    Raises:
        ArgumentError: if another process does.
        WriteError: if the system refuses.
    """
    with _held(path, path.absolute(), _lock_inside(path)):
        sweep(path, again=True)
        yield


def claims_folder(*ours: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a function that writes the folder ``out`` claim it from the start, see :func:`claim_folder`.

    Args:
        *ours: the names that an old folder may hold; none for any.
    """

    def claiming(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @wraps(function)
        def claimed(*args: P.args, **kwargs: P.kwargs) -> T:
            given = signature.bind(*args, **kwargs).arguments
            with claim_folder(Path(given["out"]), force=given.get("force", False), ours=ours or None):
                return function(*args, **kwargs)

        return claimed

    return claiming


@contextmanager
def _held(path: Path, folder: Path, lock: Path) -> Iterator[None]:
    """Hold a lock that lies in a folder; folders that were made for it go again if nothing came to lie in them."""
    with ExitStack() as stack:
        stack.callback(_remove_empty, [each for each in (folder, *folder.parents) if not each.exists()])
        with explaining(path):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold(lock, path))
        yield


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def check_output(path: Path, *, force: bool = False, ours: Collection[str] | None = None) -> None:
    """Refuse an output folder that holds something, or that cannot be made: before any work is done for it.

    Args:
        path: the folder.
        force: overwrite what it holds.
        ours: the names that a folder to be overwritten may hold; None for any.

    Raises:
        ArgumentError: if ``path`` is a file or cannot be written; if it holds something and ``force`` is not set; or if it
            holds anything but ``ours``.
    """
    if path.exists() and not path.is_dir():
        raise ArgumentError(f"{path} is a file, not a folder: choose another output.")
    held = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(OURS)) if path.is_dir() else []
    if held and not force:
        raise ArgumentError(f"{path} exists already: choose another output, or overwrite it with --force.")
    foreign = [name for name in held if ours is not None and name not in ours]
    if foreign:
        raise ArgumentError(f"{path} holds {foreign[0]}, which is not ours to overwrite: choose another output.")
    _check_writable(path)


def check_free(path: Path) -> None:
    """Refuse a folder that another process is writing.

    Raises:
        ArgumentError: saying who, and since when.
    """
    for lock in (_lock_beside(path.resolve()), _lock_inside(path)):
        refuse_if_held(lock, path)


def _check_writable(path: Path) -> None:
    """Try it: permissions alone do not tell (read-only file systems, a file among the parents)."""
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    try:
        _make_file(nearest)
    except OSError as error:
        raise ArgumentError(f"{path} cannot be written ({error.strerror} in {nearest}): choose another output.") from None


def _make_file(folder: Path) -> None:
    """Make a file and let it go: where the system can, one without a name, of which nothing can be left behind."""
    if hasattr(os, "O_TMPFILE"):
        with suppress(OSError):
            os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600))
            return
    probe = temporary_name(folder / "probe")
    with removing(probe):
        probe.touch()


def _lock_beside(path: Path) -> Path:
    """Of a folder that is replaced as a whole."""
    return path.with_name(f"{OURS}lock-{path.name}")


def _lock_inside(path: Path) -> Path:
    """Of a folder whose files are written one by one."""
    return path.absolute() / f"{OURS}lock"


def _recover(path: Path) -> None:
    """Put right what a killed process left beside a folder that we hold."""
    left = [entry for entry in path.parent.iterdir() if (temporary_of(entry) or ("", ""))[1] == path.name and entry.is_dir()]
    old = [entry for entry in left if temporary_of(entry) == ("old", path.name)]
    if old and not path.exists():
        max(old, key=lambda entry: entry.stat().st_mtime_ns).replace(path)
    for entry in left:
        remove(entry)


def _put(made: Path, path: Path) -> None:
    """Give a folder its name; an old one that has it goes away, in the same moment where the system can do that."""
    if not path.exists():
        made.replace(path)
        return
    if _exchange(made, path):
        return  # what was made now has the old content, and is removed
    old = temporary_name(path, "old")
    try:
        path.replace(old)
        made.replace(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.replace(path)
        raise
    old.replace(made)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders of a file system change names at once; False where the system cannot do that."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)
