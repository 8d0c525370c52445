"""The rows of FER2013's CSV files, each one checked: 2,304 whole numbers from 0 to 255, and a label from 0 to 6.

The file is read line by line with a limit, so that a damaged one costs no memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slimnet.data._lines import LIMIT, read_lines, shown
from slimnet.errors import DataError

SIDE = 48
PIXELS = SIDE * SIDE
LABELS = 7
USAGES = ("Training", "PublicTest", "PrivateTest")
NO_USAGE = -1
NAMES = (("angry", "anger"), ("disgust", "disgusted"), ("fear", "fearful"), ("happy", "happiness"), ("sad", "sadness"),
         ("surprise", "surprised"), ("neutral",))  # fmt: skip
"""What labels are called in place of numbers."""

_KEPT = 20  # messages about bad rows
_BLANK, _ZERO = 0x20, 0x30


@dataclass(frozen=True, eq=False)
class Rows:
    """The good rows of a file.

    Attributes:
        images: (N, 1, 48, 48) uint8.
        labels: (N,) int64.
        usage: (N,) int64, the place in `USAGES`; −1 where the file has no such column.
        rows: (N,) int64, which row of the file each is, from 0, bad ones counted too.
        bad: what is wrong with the first bad rows, a line each.
        bad_count: how many rows are bad.
    """

    images: Tensor
    labels: Tensor
    usage: Tensor
    rows: Tensor
    bad: tuple[str, ...] = ()
    bad_count: int = 0


class BadRowError(Exception):
    """What is wrong with one row; never leaves this package."""


def read_rows(path: Path, *, skip_bad_rows: bool = False) -> Rows:
    """Read ``emotion``, ``pixels`` and, where it is there, ``Usage``, in any order of columns.

    Args:
        path: the CSV file, in ASCII or UTF-8.
        skip_bad_rows: leave bad rows out and count them, instead of stopping at the first.

    Raises:
        DataError: naming file and line, if the header or a row is not as it must be, or there is no row.
    """
    try:
        with path.open("rb") as file:
            return _Reader(path, skip_bad_rows).read(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


class _Reader:
    """The state of reading one file."""

    def __init__(self, path: Path, skip_bad_rows: bool) -> None:
        self.path, self.skip = path, skip_bad_rows
        self.pixels = bytearray()
        self.facts: list[tuple[int, int, int]] = []  # row, label, usage
        self.bad: list[str] = []
        self.bad_count, self.has_usage = 0, False

    def read(self, file: BinaryIO) -> Rows:
        lines = read_lines(file)
        try:
            columns = _columns(next(lines, (1, b""))[1])
            self.has_usage = columns.usage >= 0
        except BadRowError as problem:
            raise DataError(f"{self.path}, line 1: {problem}.") from None
        for row, (number, line) in enumerate(lines):
            try:
                pixels, label, usage = _parsed(line, columns)
            except BadRowError as problem:
                self._refuse(f"{self.path}, line {number}: {problem}")
                continue
            self.pixels += pixels.data
            self.facts.append((row, label, usage))
        return self._result()

    def _refuse(self, message: str) -> None:
        if not self.skip:
            raise DataError(f"{message} (--skip-bad-rows leaves such rows out).")
        self.bad_count += 1
        self.bad += [message] if len(self.bad) < _KEPT else []

    def _result(self) -> Rows:
        if not self.facts:
            hint = f"; {self.bad_count} bad, the first: {self.bad[0]}" if self.bad else ""
            raise DataError(f"{self.path} holds no good row{hint}.")
        images = torch.frombuffer(self.pixels, dtype=torch.uint8).view(-1, 1, SIDE, SIDE)
        rows, labels, usage = torch.tensor(self.facts, dtype=torch.int64).T.contiguous()
        usage = usage if self.has_usage else torch.full_like(usage, NO_USAGE)
        return Rows(images, labels, usage, rows, tuple(self.bad), self.bad_count)


class _Columns(NamedTuple):
    """Where emotion, pixels and Usage (−1: nowhere) stand, how many columns there are, and what is between them."""

    emotion: int
    pixels: int
    usage: int
    width: int
    delimiter: bytes


def _columns(header: bytes | None) -> _Columns:
    if header is None:
        raise BadRowError(_too_long())
    if not header:
        raise BadRowError("the file is empty")
    if header[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in header:
        raise BadRowError("not ASCII or UTF-8 text (it looks like UTF-16): save it as UTF-8")
    delimiter = max((b",", b";", b"\t"), key=header.count)
    names = [_plain(name).lower() for name in header.removeprefix(b"\xef\xbb\xbf").split(delimiter)]
    for name in (b"emotion", b"pixels"):
        if name not in names:
            raise BadRowError(f"no column {name.decode()!r}; found: {shown(header)}")
    usage = names.index(b"usage") if b"usage" in names else -1
    return _Columns(names.index(b"emotion"), names.index(b"pixels"), usage, len(names), delimiter)


def _parsed(line: bytes | None, columns: _Columns) -> tuple[NDArray[np.uint8], int, int]:
    """Pixels, label and usage of a row."""
    if line is None:
        raise BadRowError(_too_long())
    emotion, pixels, usage, width, delimiter = columns
    fields = line.split(delimiter)
    if len(fields) != width:
        raise BadRowError(f"{len(fields)} columns, the header has {width}")
    return _pixels(_plain(fields[pixels])), _label(_plain(fields[emotion])), _usage(fields, usage)


def _label(field: bytes) -> int:
    number = field.removesuffix(b".0")  # what pandas makes of a number where another is missing
    if len(number) == 1 and b"0" <= number < b"%d" % LABELS:
        return number[0] - _ZERO
    name = field.decode("latin-1").lower()
    for label, known in enumerate(NAMES):
        if name in known:
            return label
    raise BadRowError(f"label {shown(field)} is not a whole number from 0 to {LABELS - 1}")


def _usage(fields: Sequence[bytes], column: int) -> int:
    if column < 0:
        return 0
    name = _plain(fields[column])
    for place, known in enumerate(USAGES):
        if name == known.encode():
            return place
    raise BadRowError(f"Usage {shown(name)} is none of {', '.join(USAGES)}")


def _pixels(field: bytes) -> NDArray[np.uint8]:
    """(2304,) uint8 from numbers of one to three digits, single blanks between: 30 µs a row."""
    if b"." in field:
        field = (field + b" ").replace(b".0 ", b" ").rstrip()
    digits = np.frombuffer(field, np.uint8) - np.uint8(_ZERO)  # what is no digit wraps to 10 or more
    gaps = np.flatnonzero(digits > 9)
    if len(gaps) != PIXELS - 1 or (digits[gaps] != np.uint8(_BLANK - _ZERO & 0xFF)).any():
        return _slow_pixels(field)
    ends = np.append(gaps, len(digits))
    lengths = np.diff(ends, prepend=-1) - 1
    if lengths.min() < 1 or lengths.max() > 3:
        return _slow_pixels(field)
    values = digits[ends - 1].astype(np.int64)
    values += 10 * np.where(lengths > 1, digits[ends - 2], 0)
    values += 100 * np.where(lengths > 2, digits[ends - 3], 0)
    return values.astype(np.uint8) if values.max() < 256 else _slow_pixels(field)


def _slow_pixels(field: bytes) -> NDArray[np.uint8]:
    """The same number by number, with any blanks between; what is wrong is named here."""
    words = field.split()
    for place, word in enumerate(words, start=1):
        if not word.isdigit() or len(word) > 9 or int(word) > 255:
            raise BadRowError(f"pixel {place} is {shown(word)}, not a whole number from 0 to 255")
    if len(words) != PIXELS:
        raise BadRowError(f"{len(words):,} pixels, not {PIXELS:,}")
    return np.array([int(word) for word in words], dtype=np.uint8)


def _plain(field: bytes) -> bytes:
    """A field without blanks and quotation marks around it."""
    return field.strip().strip(b'"').strip()


def _too_long() -> str:
    return f"longer than {LIMIT:,} bytes, which no row of FER2013 is"
