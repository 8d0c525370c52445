"""The files of a folder that somebody else may have filled: a bundle, a run, a slim network. Plain files, and no links."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

from slimnet.errors import FileFormatError


def open_at_once(path: Path) -> io.FileIO:
    """A file to be read, unbuffered. A named pipe that nobody writes to is empty, instead of making the reader wait for ever.

    Raises:
        OSError: as ``open``.
    """
    file = io.FileIO(path, opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(file.fileno(), True)
    return file


def member(folder: Path, name: str) -> Path:
    """The path of a file that lies in a folder: every reader of a bundle, a run or a slim network opens its files by this.

    The folder itself may be reached by a link.

    Raises:
        FileFormatError: if ``name`` is no plain name, or nothing of that name lies there, or it is no regular file: a link (which
            may lead out of the folder), a folder, a pipe, a device.
    """
    if not holds(folder, name):
        raise FileFormatError(f"{folder / name} does not exist.")
    return folder / name


def holds(folder: Path, name: str) -> bool:
    """Whether a file of that name lies in the folder.

    Raises:
        FileFormatError: as :func:`member`, but for a file that is not there.
    """
    if not _is_plain(name):
        raise FileFormatError(f"{folder} cannot hold {name!r}: the name of a file in it has no folder and no '..' in it.")
    path = folder / name
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}.") from None
    if not stat.S_ISREG(mode):
        raise FileFormatError(f"{path} is {_kind(mode)}, not a file: it is not read, put the file itself there.")
    return True


def refuse_links(folder: Path) -> None:
    """Refuse a folder that holds anything but files and folders: to be called before the first file of it is opened.

    Raises:
        FileFormatError: naming the first link, pipe, socket or device; or if the folder cannot be listed.
    """
    try:
        entries = sorted(folder.iterdir())
        modes = {entry: entry.lstat().st_mode for entry in entries}
    except OSError as error:
        raise FileFormatError(f"{folder} cannot be read ({error.strerror}).") from None
    for entry, mode in modes.items():
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise FileFormatError(f"{entry} is {_kind(mode)}: {folder} is read only where its files lie in it, take it out.")


def _is_plain(name: str) -> bool:
    """Whether it names a direct member of a folder, on every system."""
    return bool(name) and name not in (".", "..") and not set(name) & set("/\\:\0")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
