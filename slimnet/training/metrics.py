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
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        if not isinstance(line, dict):
            raise FileFormatError(f"{path}, line {number}, is not a JSON object: it may be truncated.")
        lines.append(line)
    return lines


def keep_epochs(folder: Path, count: int) -> None:
    """Drop what was written after the first ``count`` epochs, and a last line that was cut short."""
    path = folder / METRICS
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()[:count]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
