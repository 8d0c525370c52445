"""``metrics.jsonl``: one JSON line an epoch, and a last one with the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slimnet._files import atomic_path
from slimnet.errors import FileFormatError

METRICS = "metrics.jsonl"


def append_metrics(folder: Path, numbers: Mapping[str, Any]) -> None:
    """Append one line."""
    with (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(numbers, allow_nan=False) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines; an empty list where there is no file yet.

    Raises:
        FileFormatError: if a line is not a JSON object.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    return _parsed(path, path.read_bytes().splitlines())


def _parsed(path: Path, texts: list[bytes]) -> list[dict[str, Any]]:
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except ValueError:  # not JSON, or not UTF-8
            line = None
        if not isinstance(line, dict):
            raise FileFormatError(f"{path}, line {number}, is not a JSON object: it may be truncated.")
        lines.append(line)
    return lines


def keep_epochs(folder: Path, count: int) -> None:
    """Drop what was written after the first ``count`` epochs, and a last line that was cut short.

    Raises:
        FileFormatError: if one of these epochs is missing or damaged.
    """
    path = folder / METRICS
    texts = path.read_bytes().splitlines()[:count] if path.exists() else []
    if len(_parsed(path, texts)) < count:
        raise FileFormatError(f"{path} holds {len(texts)} of the {count} epochs that were trained: it may be truncated.")
    if path.exists():
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"".join(text + b"\n" for text in texts))
