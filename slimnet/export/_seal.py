"""The SHA-256 of every file of a bundle, and of ``model.json`` in itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slimnet._json import encode
from slimnet.export.manifest import ALL_FILES, required

MANIFEST = "model.json"
_BLANK = "0" * 64


def file_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file that lies in the folder of a bundle except ``model.json``."""
    held = [name for name in ALL_FILES if name != MANIFEST and (folder / name).is_file()]
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in held}


def sealed(model: Mapping[str, Any]) -> bytes:
    """The bytes of ``model.json``: with ``sha256``, the hash of these bytes while its own digits are zeros."""
    value = {**{key: item for key, item in model.items() if key != "sha256"}, "sha256": _BLANK}
    text = encode(value, indent=2) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text.replace(f'"sha256": "{_BLANK}"', f'"sha256": "{digest}"').encode()


def is_sealed(data: bytes, model: Mapping[str, Any]) -> bool:
    """Whether ``model.json`` is as it was written."""
    digest = model.get("sha256")
    if not isinstance(digest, str) or len(digest) != len(_BLANK):
        return False
    blank = data.replace(f'"sha256": "{digest}"'.encode(), f'"sha256": "{_BLANK}"'.encode())
    return hashlib.sha256(blank).hexdigest() == digest


def faults(folder: Path, model: Mapping[str, Any]) -> Iterator[str]:
    """What the files of a bundle are not as ``model.json`` says, and ``model.json`` is not as it was written: a line each."""
    if not is_sealed((folder / MANIFEST).read_bytes(), model):
        yield f"{folder / MANIFEST} is not the file that was exported: its SHA-256 differs."
    entries = _entries(model)
    for name in required(model):
        if name not in entries:
            yield f"{folder / MANIFEST} does not list {name}: export the bundle again."
    for name in entries:
        if name not in ALL_FILES or name == MANIFEST:
            yield f"{folder / MANIFEST} lists {name!r}, which is no file of a bundle: export it again."
        elif not (folder / name).is_file():
            yield f"{folder / name} does not exist: the bundle is incomplete, export it again."
        elif not is_intact(folder, name, model):
            yield f"{folder / name} is not the file that was exported: its SHA-256 differs."


def is_intact(folder: Path, name: str, model: Mapping[str, Any]) -> bool:
    """Whether a file lies there and is the one that ``model.json`` lists."""
    entry = _entries(model).get(name)
    return isinstance(entry, dict) and (folder / name).is_file() and sha256(folder / name) == entry.get("sha256")


def unlisted(folder: Path, model: Mapping[str, Any]) -> list[str]:
    """Names of what lies in the folder and is not listed; what Python leaves beside ``infer.py`` does not count."""
    listed = {MANIFEST, *_entries(model), "__pycache__"}
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in listed)


def _entries(model: Mapping[str, Any]) -> dict[str, Any]:
    entries = model.get("files")
    return entries if isinstance(entries, dict) else {}


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
