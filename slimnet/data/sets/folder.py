"""A folder of images: a folder a split and in it a folder a class, or a folder a class alone; and the layouts of some faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slimnet.data._source import Request, Source
from slimnet.data.classes import expression_order, sorted_classes
from slimnet.data.layouts import ROLES, folders, pictures_below, roles, unwrapped, what_is_there
from slimnet.data.listing import Listing, listed
from slimnet.data.sets import _faces
from slimnet.errors import DataError
from slimnet.pictures import SUFFIXES

_WANTED = "a folder a split (train, val, test) with a folder a class in each, or a folder a class"
Found = list[tuple[str, int, int]]


def load(request: Request) -> Source:
    """Load a folder. Classes are the names of the sub-folders, sorted; whole numbers, by their value.

    Images become RGB, or grey if every training image is grey. Without ``image_size`` all must have one size.

    Raises:
        DataError: if it is laid out in no way that is known, classes are not the same in all splits, or an image is broken.
    """
    if request.data_dir is None:
        raise DataError("folder needs a data folder: the one that holds train and test, or a folder a class (--data-dir).")
    return find(unwrapped(request.data_dir)).source(request)


def find(root: Path) -> Listing:
    """What a folder holds, by its layout."""
    if (faces := _faces.find(root)) is not None:
        return faces
    found = roles(root)
    if 0 not in found:
        if found:
            raise DataError(f"{root} must hold train beside {found[min(found)].name}; it holds {what_is_there(root)}.")
        return _classes_alone(root)
    others = [name for name in folders(root) if root / name not in found.values()]
    if len(found) == 1 and others:
        raise DataError(f"{root} must hold val or test beside train; it holds {what_is_there(root)}.")
    classes = _class_names(found[0])
    if len(found) == 1:
        return _listing(root, classes, _files(found[0], root, classes, -1), found[0])
    rows = [row for part, folder in found.items() for row in _files(folder, root, classes, part)]
    return _listing(root, classes, rows, found[0], _doubled(root, found))


def _classes_alone(root: Path) -> Listing:
    names = folders(root)
    if len(names) < 2 or not all(pictures_below(root / name, root) for name in names):
        raise DataError(f"{root} must hold {_WANTED}; it holds {what_is_there(root)}.")
    classes = sorted_classes(names)
    return _listing(root, classes, _files(root, root, classes, -1), root)


def _listing(root: Path, classes: tuple[str, ...], rows: Found, first: Path, notes: Sequence[str] = ()) -> Listing:
    names = _faces.numbered(first, classes, (row[0] for row in rows))
    said = (*notes, f"classes {', '.join(classes)} are taken to be {', '.join(names)}") if names != classes else notes
    return listed(root, names, rows, notes=said, order=expression_order(names))


def _doubled(root: Path, found: dict[int, Path]) -> list[str]:
    """A line for each folder of a split that was passed over."""
    words = {word: part for part, known in enumerate(ROLES) for word in known}
    rest = [name for name in folders(root) if words.get(name.lower()) in found and root / name not in found.values()]
    return [f"{root / name} is not read: {found[words[name.lower()]].name} is" for name in rest]


def _class_names(folder: Path) -> tuple[str, ...]:
    names = sorted_classes(folders(folder))
    if len(names) < 2:
        raise DataError(f"{folder} must hold at least two folders, one a class; it holds {len(names)}.")
    return names


def _files(folder: Path, root: Path, classes: Sequence[str], part: int) -> Found:
    """The image files below ``folder`` with labels and split, in the order of their names."""
    other = sorted(set(_class_names(folder)) ^ set(classes))
    if other:
        raise DataError(f"{folder} has not the same classes as train: {', '.join(other[:3])} is in one of them only.")
    rows: Found = []
    for label, name in enumerate(classes):
        members = pictures_below(folder / name, root)
        if not members:
            raise DataError(f"{folder / name} holds no image: known are {', '.join(sorted(SUFFIXES))}.")
        rows += [(member, label, part) for member in members]
    return rows
