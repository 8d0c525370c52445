"""Lines of a text file that may be anything: bytes, with a limit, so that a damaged file costs no memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

LIMIT = 1 << 16  # bytes a line; a row of FER2013 has at most 9,250
_SHOWN = 24  # bytes of a value in a message


def read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers from 1, blank ones left out; None for a line that is longer than `LIMIT`."""
    number = 0
    while line := file.readline(LIMIT + 1):
        number += 1
        if len(line) <= LIMIT:
            if text := line.strip():
                yield number, text
            continue
        yield number, None
        while line and not line.endswith(b"\n"):
            line = file.readline(LIMIT)


def shown(text: bytes) -> str:
    """The beginning of some bytes, printable, on one line."""
    return ascii(text[:_SHOWN].decode("latin-1")) + ("…" if len(text) > _SHOWN else "")
