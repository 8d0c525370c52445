"""Files that are written whole or not at all, and read with one clear line on failure."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet._json import check, decode, encode, read_text
from slimnet.errors import ArgumentError, FileFormatError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` on success, remove it on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, ours: Collection[str], force: bool = False) -> Iterator[Path]:
    """Give a temporary folder; rename it to ``path`` on success, remove it on failure.

    Args:
        path: the folder to make.
        ours: the names that an old folder may hold; whatever else lies in it would be lost.
        force: replace an old folder.

    Raises:
        ArgumentError: as :func:`check_output`.
    """
    check_output(path, force=force, ours=ours)
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    temporary.chmod(0o755)
    replaced = temporary.with_suffix(".old")
    try:
        yield temporary
        if path.is_dir():
            path.replace(replaced)
        temporary.replace(path)
    finally:
        if replaced.is_dir() and not path.exists():
            replaced.replace(path)
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def check_output(path: Path, *, force: bool = False, ours: Collection[str] | None = None) -> None:
    """Refuse an output folder that holds something, or that cannot be made: before any work is done for it.

    Args:
        path: the folder.
        force: overwrite what it holds.
        ours: the names that a folder to be overwritten may hold; None for any.

    Raises:
        ArgumentError: if ``path`` is a file or cannot be written; if it holds something and ``force`` is not set; or if it
            holds anything but ``ours``.
    """
    if path.exists() and not path.is_dir():
        raise ArgumentError(f"{path} is a file, not a folder: choose another output.")
    held = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if held and not force:
        raise ArgumentError(f"{path} exists already: choose another output, or overwrite it with --force.")
    foreign = [name for name in held if ours is not None and name not in ours]
    if foreign:
        raise ArgumentError(f"{path} holds {foreign[0]}, which is not ours to overwrite: choose another output.")
    _check_writable(path)


def _check_writable(path: Path) -> None:
    """Try it: permissions alone do not tell (read-only file systems, a file among the parents)."""
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".slimnet.", dir=nearest):
            pass
    except OSError as error:
        raise ArgumentError(f"{path} cannot be written ({error.strerror} in {nearest}): choose another output.") from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` as indented JSON with a final newline."""
    with atomic_path(path) as temporary:
        temporary.write_text(encode(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        kind: the schema that it is held against (:mod:`slimnet._json`); None takes any object.

    Raises:
        FileFormatError: if the file is missing, is not JSON, breaks a bound, is not an object, or not as its schema says.
    """
    value = decode(read_text(path), str(path))
    if not isinstance(value, dict):
        raise FileFormatError(f"{path} does not hold a JSON object.")
    if kind is not None:
        check(value, kind, str(path))
    return value


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors (on the CPU, contiguous, shared storage written once for each name)."""
    from safetensors.torch import save_file

    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(flat, str(temporary), metadata=dict(metadata or {}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        FileFormatError: if the file is missing, truncated, or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileFormatError(f"{path} does not exist.")
    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(f"{path} is not a readable safetensors file ({error}): it may be truncated.") from None
