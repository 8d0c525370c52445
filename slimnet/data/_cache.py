"""A binary copy of what was parsed from a file: beside it in ``.slimnet/``, or else in the user's cache folder.

The copy belongs to one state of the file: its size, its time of change, and a hash of blocks all over it.
It is written whole or not at all, with a checksum of its tensors. A copy that is damaged or of another state counts as absent.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slimnet._json import check, decode, encode
from slimnet.errors import FileFormatError, SlimnetWarning
from slimnet.files import read_tensors, write_tensors
from slimnet.files.checksum import checksum

_ABOUT = "about"  # the name of the tensor that holds JSON
_BLOCK, _BLOCKS = 1 << 14, 64


def fingerprint(path: Path, version: str) -> str:
    """What names the state of a file: any change of size or time, and nearly any other, gives another.

    A file of up to 1 MiB is hashed whole, a larger one at 64 places, evenly spaced, the end among them.

    Args:
        path: the file.
        version: of what is made from it.
    """
    status = path.stat()
    digest = hashlib.blake2b(f"{version}/{status.st_size}/{status.st_mtime_ns}".encode(), digest_size=16)
    last = max(0, status.st_size - _BLOCK)
    with path.open("rb") as file:
        for i in range(_BLOCKS):
            file.seek(last * i // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def read_copy(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors and JSON values that were stored for this state of ``path``, or None."""
    for place in _places(path):
        with suppress(FileFormatError, OSError, ValueError, KeyError, TypeError):
            tensors = read_tensors(place)
            about = decode(bytes(tensors.pop(_ABOUT).tolist()), str(place))
            check(about, "copy", str(place))
            if about["key"] == key and about["checksum"] == checksum(tensors):
                return tensors, about
    return None


def write_copy(path: Path, key: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> Path | None:
    """Store a copy for this state of ``path`` in the first place that can be written; None, with a warning, if there is none."""
    text = encode({"key": key, "checksum": checksum(tensors), **about}, ascii_only=True).encode()
    content = {**tensors, _ABOUT: torch.tensor(list(text), dtype=torch.uint8)}
    for place in _places(path):
        try:
            write_tensors(place, content, parents=True)
        except OSError as error:
            reason = error
        else:
            return place
    warnings.warn(f"no copy of {path} is kept: {reason} It is parsed again next time.", SlimnetWarning, stacklevel=2)
    return None


def _places(path: Path) -> tuple[Path, Path]:
    path = path.resolve()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = hashlib.blake2b(bytes(path), digest_size=8).hexdigest()
    return path.parent / ".slimnet" / f"{path.name}.safetensors", home / "slimnet" / f"{place}-{path.name}.safetensors"
