"""The SHA-256 of every file of a bundle, and of ``model.json`` in itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slimnet._json import encode
from slimnet.bundle.manifest import KNOWN_FILES, PRECISIONS, format_files, required
from slimnet.errors import FileFormatError
from slimnet.files.untrusted import holds, member

MANIFEST = "model.json"
_BLANK = "0" * 64
_COMPILED = re.compile(r"infer\.\w+-\d+(\.opt-\d)?\.pyc")


def file_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file that lies in the folder of a bundle except ``model.json``."""
    held = [name for name in KNOWN_FILES if name != MANIFEST and (folder / name).is_file()]
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
    if not is_sealed(member(folder, MANIFEST).read_bytes(), model):
        yield _changed(folder / MANIFEST)
    entries = _entries(model)
    for name in dict.fromkeys((*required(model), *_networks(model))):
        if name not in entries:
            yield f"{folder / MANIFEST} does not list {name}: export the bundle again."
    for name in entries:
        if name not in KNOWN_FILES or name == MANIFEST:
            yield f"{folder / MANIFEST} lists {name!r}, which is no file of a bundle: export it again."
        elif not holds(folder, name):
            yield f"{folder / name} does not exist: the bundle is incomplete, export it again."
        elif not is_intact(folder, name, model):
            yield _changed(folder / name)


def is_intact(folder: Path, name: str, model: Mapping[str, Any]) -> bool:
    """Whether a file lies there and is the one that ``model.json`` lists."""
    entry = _entries(model).get(name)
    return isinstance(entry, dict) and holds(folder, name) and sha256(folder / name) == entry.get("sha256")


def verified(folder: Path, name: str, model: Mapping[str, Any]) -> bytes:
    """The bytes of ``model.json`` or a file that it lists: what is published or packed again is read by this.

    Raises:
        FileFormatError: if it is not listed, missing, a link, or another file than the one that was exported.
    """
    if name != MANIFEST and not lists(name, model):
        raise FileFormatError(f"{folder / name} is not listed in model.json: it is no part of the bundle.")
    data = member(folder, name).read_bytes()
    right = is_sealed(data, model) if name == MANIFEST else _is_right(data, _entries(model)[name])
    if not right:
        raise FileFormatError(_changed(folder / name))
    return data


def lists(name: str, model: Mapping[str, Any]) -> bool:
    """Whether ``model.json`` lists a file of that name."""
    return name in _entries(model)


def unlisted(folder: Path, model: Mapping[str, Any], *, installed: bool = False) -> list[str]:
    """Names of what lies in the folder and is not listed.

    Args:
        folder: of a bundle.
        model: contents of ``model.json``.
        installed: it is a bundle that slimnet ships, where it was installed. What an installer compiled of its
            ``infer.py`` does not count then; nothing runs it.
    """
    listed = {MANIFEST, *_entries(model)}
    found = sorted(entry.name for entry in folder.iterdir() if entry.name not in listed)
    return [name for name in found if not (installed and _is_compiled(folder / name))]


def _is_compiled(path: Path) -> bool:
    """Whether it is what Python's compiler makes of ``infer.py``, and nothing else."""
    if path.name != "__pycache__" or path.is_symlink() or not path.is_dir():
        return False
    return all(_COMPILED.fullmatch(entry.name) and holds(path, entry.name) for entry in path.iterdir())


def _networks(model: Mapping[str, Any]) -> list[str]:
    """The files of the precisions and formats that ``model.json`` names."""
    precisions = model.get("precisions")
    plain = [file for name, file in PRECISIONS.items() if isinstance(precisions, dict) and name in precisions]
    return [*plain, *(file for files in format_files(model).values() for file in files)]


def _is_right(data: bytes, entry: Any) -> bool:
    return isinstance(entry, dict) and hashlib.sha256(data).hexdigest() == entry.get("sha256")


def _changed(path: Path) -> str:
    return f"{path} is not the file that was exported: its SHA-256 differs."


def _entries(model: Mapping[str, Any]) -> dict[str, Any]:
    entries = model.get("files")
    return entries if isinstance(entries, dict) else {}


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
