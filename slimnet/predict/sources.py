"""What to predict: files, folders, standard input, lists of names; nothing is opened here."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from slimnet.errors import ArgumentError, FileFormatError
from slimnet.pictures import SUFFIXES

if TYPE_CHECKING:
    from slimnet.pictures.picture import Picture

STDIN = "-"
MAX_BYTES = 1 << 28
"""The most that a picture from a stream (standard input, a pipe) may have."""


@dataclass(frozen=True, eq=False)
class Source:
    """A picture that is not open yet.

    Attributes:
        name: what to call it, as the caller did.
        path: the file; None where there is none.
        data: its bytes, where they have been read already.
        fault: why it cannot be read, where that is known already.
        image: the picture itself, where it is open after all.
    """

    name: str
    path: Path | None = None
    data: bytes | None = None
    fault: str | None = None
    image: Picture | None = None


def find_sources(names: Iterable[str | Path], *, stdin: BinaryIO | None = None) -> list[Source]:
    """Files as they are given, the images in folders and below them in the order of their names, ``-`` for standard input.

    Hidden files and folders are passed over, and links to folders are not followed. A folder that holds no image, or cannot be
    listed, becomes a source with a fault: the others are not stopped by it.

    Args:
        names: files, folders, ``-``.
        stdin: what ``-`` is read from.

    Raises:
        ArgumentError: if ``-`` is given twice.
    """
    given = [str(name) for name in names]
    if given.count(STDIN) > 1:
        raise ArgumentError("- is given twice: standard input holds one picture.")
    return [source for name in given for source in _expanded(name, stdin)]


def read_names(file: BinaryIO, name: str) -> list[str]:
    """Names of files, one a line; blank lines are passed over, and a byte order mark at the start.

    Args:
        file: an open list.
        name: what to call it.

    Raises:
        FileFormatError: if it holds a NUL byte: it is no text.
    """
    data = file.read(MAX_BYTES).removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        raise FileFormatError(f"{name} is no list of names, for it holds NUL bytes: give a text file, one name a line.")
    return [os.fsdecode(line) for line in data.splitlines() if line.strip()]


def _expanded(name: str, stdin: BinaryIO | None) -> Iterator[Source]:
    path = Path(name)
    if name == STDIN and stdin is not None:
        yield Source("standard input", data=stdin.read(MAX_BYTES + 1))
    elif path.is_dir():
        yield from _listed(path)
    else:
        yield Source(name, path)


def _listed(folder: Path) -> Sequence[Source]:
    found: list[Source] = []

    def refused(error: OSError) -> None:
        where = str(error.filename or folder)
        found.append(Source(where, fault=f"{where} cannot be listed ({error.strerror})."))

    for where, folders, files in os.walk(folder, onerror=refused):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        images = sorted(each for each in files if not each.startswith(".") and Path(each).suffix.lower() in SUFFIXES)
        found += [Source(str(Path(where) / each), Path(where) / each) for each in images]
    if not found:
        known = ", ".join(sorted(SUFFIXES))
        found.append(Source(str(folder), fault=f"{folder} holds no image: known are {known}."))
    return found
