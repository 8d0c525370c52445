"""How every file is written: under a temporary name beside its own, which it gets once all of it is there.

A temporary file is locked by whoever writes it. One that nobody locks is of a process that no longer lives, and is removed
when a process first writes into that folder.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from slimnet.errors import WriteError, whole_text
from slimnet.files.locks import is_locked, try_lock

OURS = ".slimnet-"
"""How the name of everything begins that is ours and not a result."""
_TEMPORARY = re.compile(re.escape(OURS) + r"(?P<kind>new|old)-[0-9a-f]{8}-(?P<name>.+)", re.DOTALL)
_ADVICE = {
    errno.ENOSPC: "make room there, or choose another place",
    errno.EDQUOT: "make room in your quota, or choose another place",
    errno.EFBIG: "raise the limit of the size of a file (ulimit -f), or choose another place",
    errno.ENOENT: "see whether its folder is still there",
}
_live: set[Path] = set()  # what this process would leave behind if it ended now
_swept: set[Path] = set()


def temporary_name(path: Path, kind: str = "new") -> Path:
    """A hidden name beside ``path`` with the same ending, free with near certainty."""
    return path.with_name(f"{OURS}{kind}-{secrets.token_hex(4)}-{path.name}")


def temporary_of(path: Path) -> tuple[str, str] | None:
    """Whether it is new or old, and of which name, if ``path`` is called as :func:`temporary_name` calls things; else None."""
    found = _TEMPORARY.fullmatch(path.name)
    return (found["kind"], found["name"]) if found else None


@contextmanager
def explaining(path: Path, *, within: Path | None = None) -> Iterator[None]:
    """Turn the system's errors into one that names ``path``, says why, and what to do.

    Args:
        path: what is being written.
        within: the folder that becomes ``path``. Errors that name files, none of them in it, are left alone: what was read is
            not what was written.

    Raises:
        WriteError: instead of OSError.
    """
    try:
        yield
    except WriteError as error:
        if within is None or str(within) not in error.args[0]:
            raise
        raise WriteError(error.args[0].replace(str(within), str(path)), error.errno) from None
    except OSError as error:
        named = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        if within is not None and named and not any(within in (name, *name.parents) for name in named):
            raise
        reason = error.strerror or whole_text(error)
        advice = _ADVICE.get(error.errno or 0, "choose another place")
        raise WriteError(f"{path} cannot be written ({reason}): {advice}.", error.errno) from None


@contextmanager
def atomic_file(path: Path, *, parents: bool = False) -> Iterator[BinaryIO]:
    """Give a file to write; it becomes ``path`` once that is done, and nothing is left of it on failure.

    Args:
        path: the file; an old one stays as it is until the new one takes its place.
        parents: make the folders that are missing.

    Raises:
        WriteError: if the system refuses.
    """
    with explaining(path):
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        with _created(path) as (temporary, file):
            yield file
            file.flush()
            os.close(os.dup(file.fileno()))  # a network file system tells of a full disk no sooner
            if os.name == "nt":  # pragma: no cover (where an open file keeps its name)
                file.close()
            temporary.replace(path)


@contextmanager
def atomic_path(path: Path, *, parents: bool = False) -> Iterator[Path]:
    """As :func:`atomic_file`, for those who open files themselves: give a temporary name with the ending of ``path``."""
    with atomic_file(path, parents=parents) as file:
        yield Path(file.name)


def write_bytes(path: Path, data: bytes, *, parents: bool = False) -> None:
    """Write a file whole or not at all, see :func:`atomic_file`."""
    with atomic_file(path, parents=parents) as file:
        file.write(data)


def append_line(path: Path, line: str) -> None:
    """Append a line whole or not at all.

    Raises:
        WriteError: if the system refuses.
    """
    left = memoryview(f"{line}\n".encode())
    with explaining(path), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            while left:
                left = left[file.write(left) :]
        except BaseException:
            with suppress(OSError):
                file.truncate(size)
            raise


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A folder among the system's temporary ones, gone at the end.

    Raises:
        WriteError: if it cannot be made, or is full.
    """
    try:
        place = tempfile.gettempdir()
    except OSError as error:
        raise _no_scratch(os.environ.get("TMPDIR") or "/tmp", error) from None
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"slimnet-{purpose}-"))
    except OSError as error:
        raise _no_scratch(place, error) from None
    with removing(folder):
        try:
            yield folder
        except WriteError:
            raise
        except OSError as error:
            if error.filename is not None and folder not in Path(os.fsdecode(error.filename)).parents:
                raise
            raise _no_scratch(place, error) from None


def _no_scratch(place: str, error: OSError) -> WriteError:
    reason = error.strerror or str(error)
    return WriteError(f"temporary files cannot be written in {place} ({reason}): name another folder in TMPDIR.", error.errno)


@contextmanager
def removing(path: Path) -> Iterator[None]:
    """See that nothing is left at ``path`` in the end, whatever happens."""
    _live.add(path)
    try:
        yield
    finally:
        remove(path)
        _live.discard(path)


def remove(path: Path) -> None:
    """Remove a file or a folder with all in it, as far as the system lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def remove_live() -> None:
    """Remove what this process would leave behind: just before it ends without unwinding."""
    for path in list(_live):
        remove(path)


def sweep(folder: Path, *, again: bool = False) -> None:
    """Remove the temporary files in a folder whose processes no longer live; once, unless it is to be done ``again``."""
    folder = folder.absolute()
    if folder in _swept and not again:
        return
    _swept.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if temporary_of(path) and entry.is_file(follow_symlinks=False) and not is_locked(path):
                remove(path)


@contextmanager
def _created(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new temporary file, locked: one that another process took for dead before we could lock it is left to it."""
    while True:
        temporary = temporary_name(path)
        with removing(temporary), temporary.open("xb") as file:
            if try_lock(file.fileno()) is not False and os.fstat(file.fileno()).st_nlink:
                yield temporary, file
                return
