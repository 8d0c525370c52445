"""Pictures that a page offers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from slimnet.errors import ArgumentError

_HEAD = 12  # bytes that tell a format
_KINDS = {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff", ".gif": b"GIF8", ".bmp": b"BM"}


def example_names(paths: Sequence[Path]) -> dict[str, Path]:
    """A name in the site for each picture.

    Raises:
        ArgumentError: if a file is missing, or is no picture that browsers read.
    """
    return {f"example-{number}{_kind(path)}": path for number, path in enumerate(paths, start=1)}


def copy_examples(named: dict[str, Path], folder: Path) -> list[dict[str, str]]:
    """Copy them into a site; what the page is to know of each."""
    for name, path in named.items():
        shutil.copyfile(path, folder / name)
    return [{"file": name, "name": path.stem} for name, path in named.items()]


def _kind(path: Path) -> str:
    """The suffix that its first bytes ask for."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read ({error.strerror}): give pictures as examples.") from None
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return ".webp"
    for suffix, magic in _KINDS.items():
        if head.startswith(magic):
            return suffix
    raise ArgumentError(f"{path} is no picture that browsers read: give PNG, JPEG, WebP, GIF or BMP files as examples.")
