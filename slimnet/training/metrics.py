"""``metrics.jsonl``: one JSON line an epoch, and a last one with the result; ``selection.jsonl``: the filters selected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slimnet._json import check, decode, encode, read_text
from slimnet.errors import FileFormatError
from slimnet.files import append_line, write_bytes
from slimnet.files.untrusted import holds

METRICS, SELECTION = "metrics.jsonl", "selection.jsonl"


def append_metrics(folder: Path, numbers: Mapping[str, Any]) -> None:
    """Append one line."""
    _append(folder / METRICS, numbers)


def append_selection(folder: Path, epoch: int, selected: Mapping[str, Tensor]) -> None:
    """Append which filters an epoch ended with selected.

    Args:
        folder: of the run.
        epoch: from 0.
        selected: group name → (size,) bool.
    """
    packed = {name: np.packbits(chosen.cpu().numpy()).tobytes().hex() for name, chosen in selected.items()}
    _append(folder / SELECTION, {"epoch": epoch, "selected": packed})


def read_selection(folder: Path, sizes: Mapping[str, int]) -> list[dict[str, NDArray[np.bool_]]]:
    """What each epoch ended with selected: group name → (size,) bool; an empty list where the run kept no record.

    Args:
        folder: of the run.
        sizes: number of filters of each group.

    Raises:
        FileFormatError: if a line is damaged, or of other groups.
    """
    path = folder / SELECTION
    lines = read_lines(path, "selection") if holds(folder, SELECTION) else []
    return [_unpacked(path, number, line, sizes) for number, line in enumerate(lines, 1)]


def _unpacked(path: Path, number: int, line: dict[str, Any], sizes: Mapping[str, int]) -> dict[str, NDArray[np.bool_]]:
    """What a line of ``selection.jsonl`` says was selected: group name → (size,) bool."""
    found = {}
    try:
        for name, text in line["selected"].items():
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
            if not 0 <= len(bits) - sizes[name] < 8:
                raise ValueError
            found[name] = bits[: sizes[name]].astype(np.bool_)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise FileFormatError(f"{path}, line {number}, does not fit the groups of this run: it was changed.") from None
    return found


def _append(path: Path, values: Mapping[str, Any]) -> None:
    append_line(path, encode(values, ascii_only=True))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines; an empty list where there is no file yet.

    Raises:
        FileFormatError: if a line is not a JSON object.
    """
    path = folder / METRICS
    if not holds(folder, METRICS):
        return []
    return read_lines(path, "metrics")


def read_lines(path: Path, kind: str) -> list[dict[str, Any]]:
    """The JSON object of each line of a file, held against a schema.

    Raises:
        FileFormatError: naming the first line that is none, or not as the schema says.
    """
    return _parsed(path, read_text(path).splitlines(), kind)


def _parsed(path: Path, texts: list[bytes], kind: str) -> list[dict[str, Any]]:
    lines = []
    for number, text in enumerate(texts, 1):
        line = decode(text, f"{path}, line {number},")
        if not isinstance(line, dict):
            raise FileFormatError(f"{path}, line {number}, is not a JSON object: it may be truncated.")
        check(line, kind, f"{path}, line {number}")
        lines.append(line)
    return lines


def keep_epochs(folder: Path, count: int) -> None:
    """Drop what was written after the first ``count`` epochs, and a last line that was cut short.

    Raises:
        FileFormatError: if one of these epochs is missing or damaged.
    """
    path = folder / METRICS
    texts = _first_lines(path, count)
    if len(_parsed(path, texts, "metrics")) < count:
        raise FileFormatError(f"{path} holds {len(texts)} of the {count} epochs that were trained: it may be truncated.")
    _rewrite(path, texts)
    chosen = _first_lines(folder / SELECTION, count)
    _rewrite(folder / SELECTION, [text for text in chosen if _epoch(text) < count])


def _first_lines(path: Path, count: int) -> list[bytes]:
    return read_text(path).splitlines()[:count] if holds(path.parent, path.name) else []


def _rewrite(path: Path, texts: list[bytes]) -> None:
    if holds(path.parent, path.name):
        write_bytes(path, b"".join(text + b"\n" for text in texts))


def _epoch(text: bytes) -> float:
    """The epoch that a line of the selection is of; infinite for a line that was cut short."""
    try:
        return int(decode(text, SELECTION)["epoch"])
    except (FileFormatError, KeyError, OverflowError, TypeError, ValueError):
        return math.inf
