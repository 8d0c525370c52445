"""How a folder of pictures is laid out: which of its folders is which split."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from slimnet.errors import DataError
from slimnet.pictures import SUFFIXES

ROLES = (
    ("train", "training", "train_set"),
    ("val", "valid", "validation", "publictest", "val_set"),
    ("test", "privatetest", "test_set", "eval"),
)
"""Names of folders of splits, in small letters; the first that is there is taken."""

_IGNORED = ("__macosx", "__pycache__")
_DEEP = 3  # folders that may be wrapped around
_SHOWN = 8


def folders(root: Path) -> list[str]:
    """Names of the folders in one, sorted; hidden ones left out."""
    found = (p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    return sorted(name for name in found if name.lower() not in _IGNORED)


def roles(root: Path) -> dict[int, Path]:
    """Split (0 train, 1 val, 2 test) → its folder, for the splits that have one."""
    names = {name: root / name for name in folders(root)}
    found: dict[int, Path] = {}
    for part, known in enumerate(ROLES):
        hits = [path for word in known for name, path in sorted(names.items(), reverse=True) if name.lower() == word]
        hits = [path for path in hits if folders(path)]
        if hits:
            found[part] = hits[0]
    return found


def unwrapped(root: Path) -> Path:
    """The folder itself, or the one that is wrapped in it: where it holds one folder of folders and no picture, again and again.

    Raises:
        DataError: if there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root} does not exist, or is no folder: give the one that holds the pictures (--data-dir).")
    for _ in range(_DEEP):
        inner = folders(root)
        if len(inner) != 1 or roles(root) or any(is_picture(p.name) for p in root.iterdir()) or not folders(root / inner[0]):
            return root
        root = root / inner[0]
    return root


def what_is_there(root: Path) -> str:
    """For a message: the beginning of what a folder holds."""
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in root.iterdir())
    more = f" … ({len(names):,} in all)" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "nothing") + more


def is_picture(name: str) -> bool:
    """Whether a name ends like a picture's."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 – of many names


def pictures_below(folder: Path, root: Path) -> list[str]:
    """Names below ``root`` of the picture files below ``folder``, in their order; links to folders in it are not followed."""
    found = sorted(_walked(str(folder)), key=lambda path: path.split(os.sep))  # noqa: PTH206
    cut = len(str(root).rstrip(os.sep)) + 1
    return [path[cut:].replace(os.sep, "/") for path in found]


def _walked(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walked(entry.path)
            elif is_picture(entry.name) and entry.is_file():
                yield entry.path
