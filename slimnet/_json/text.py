"""JSON as text: bounded before it is parsed."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

from slimnet.errors import FileFormatError, whole_text

MOST_BYTES, MOST_DEPTH, MOST_DIGITS = 1 << 26, 64, 40
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def decode(text: str | bytes, name: str) -> Any:
    """The value of a JSON text.

    Args:
        text: of at most 64 MiB, in UTF-8; nested at most 64 deep, with numbers of at most 40 characters.
        name: what an error calls it.

    Raises:
        FileFormatError: if it breaks a bound, is not JSON, gives a key twice, or holds NaN, an infinity, or half a character.
    """
    try:
        data = text.encode() if isinstance(text, str) else text
        _check_bounds(data)
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_int=_int,
            parse_float=_float,
            parse_constant=_constant,
        )
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()  # half of a pair of surrogates is no character
    except (ValueError, RecursionError) as error:  # ValueError: of JSON, of UTF-8, and of the hooks
        raise FileFormatError(f"{name} is not readable JSON ({whole_text(error)}): it may be truncated.") from None
    return value


def encode(value: Any, *, indent: int | None = None, ascii_only: bool = False, sort_keys: bool = False) -> str:
    """A value as JSON text, the same for the same value.

    Raises:
        ValueError: if it holds NaN or an infinity, which JSON does not have.
    """
    return json.dumps(value, indent=indent, ensure_ascii=ascii_only, sort_keys=sort_keys, allow_nan=False)


def read_text(path: Path) -> bytes:
    """The bytes of a file of JSON, or of lines of it: not more than 64 MiB.

    Raises:
        FileFormatError: if it is missing, longer, or no plain file.
    """
    try:
        with open(path, "rb", opener=_opened) as file:  # Path.open takes no opener
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileFormatError(f"{path} is not readable JSON: it is no plain file.")
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise FileFormatError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise FileFormatError(f"{path} is not readable JSON ({error}): it may be truncated.") from None
    if len(data) > MOST_BYTES:
        raise FileFormatError(f"{path} is longer than {MOST_BYTES:,} bytes: no JSON of slimnet's is.")
    return data


def _opened(path: str, flags: int) -> int:
    """Without waiting for a pipe that nobody writes into."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_bounds(data: bytes) -> None:
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES:,} bytes")
    if data.count(b"[") + data.count(b"{") > MOST_DEPTH:
        depth = 0
        for bracket in _STRING.sub(b"", data).translate(None, _NOT_BRACKETS):
            depth += _STEP[bracket]
            if depth > MOST_DEPTH:
                raise ValueError(f"it is nested more than {MOST_DEPTH} deep")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"it gives the key {_short(twice)!r} twice")
    return value


def _int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number has {len(text):,} characters, at most {MOST_DIGITS} are read")
    return int(text)


def _float(text: str) -> float:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number has {len(text):,} characters, at most {MOST_DIGITS} are read")
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is out of range")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"
