"""A table of paths and labels: CSV, TSV or Parquet, with pictures below its folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from slimnet.data._source import Request, Source
from slimnet.data._table import Row, read_table
from slimnet.data.about import About
from slimnet.data.classes import expression_order, sorted_classes
from slimnet.data.layouts import ROLES
from slimnet.data.listing import Listing, listed
from slimnet.errors import DataError

ABOUT = {"table": About()}
OPTIONS = {"table": {"skip_bad_rows": False}}
ENDINGS = (".csv", ".tsv", ".txt", ".parquet")
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_name", "img",
             "img_path", "name", "id"),
    "label": ("label", "class", "class_name", "target", "category", "labels", "emotion", "expression", "y"),
    "split": ("split", "subset", "set", "usage", "partition"),
}  # fmt: skip
"""What the columns are called, in small letters; the first that is there is taken."""

_LONGEST = 4096  # bytes of a path


def load(request: Request) -> Source:
    """Load a table.

    Raises:
        DataError: if it has no column of paths or of labels, a row is not as it must be, or a picture is missing.
    """
    if request.data_dir is None:
        raise DataError("table needs a file: a CSV or Parquet with a path and a label a row (--data-dir FILE).")
    return find(_file(request.data_dir), skip_bad_rows=request.options["skip_bad_rows"]).source(request)


def find(path: Path, *, skip_bad_rows: bool = False) -> Listing:
    """What a table lists."""
    root, notes = path.parent, list[str]()
    columns, rows = read_table(path, COLUMNS)
    good = list(_good(root, path, rows, has_split=columns[2] >= 0, skip=skip_bad_rows, notes=notes))
    if not good:
        raise DataError(f"{path} holds no good row{'; ' + notes[0] if notes else ''}.")
    classes = sorted_classes({label for _, label, _ in good})
    places = {name: place for place, name in enumerate(classes)}
    found = [(name, places[label], part) for name, label, part in good]
    twice = len(found) - len({name for name, _, _ in found})
    if twice:
        raise DataError(f"{path} lists {twice:,} pictures more than once: leave them out, or they may be in two splits.")
    return listed(root, classes, found, notes=notes, order=expression_order(classes))


def _file(given: Path) -> Path:
    """The table itself, or the only one in a folder."""
    if given.is_dir():
        inside = sorted(p for p in given.iterdir() if p.suffix.lower() in ENDINGS and p.is_file())
        if len(inside) != 1:
            names = ", ".join(p.name for p in inside[:8]) or "none"
            raise DataError(f"{given} must hold one table ({', '.join(ENDINGS)}), it holds {names}: name it (--data-dir FILE).")
        return inside[0]
    if not given.is_file():
        raise DataError(f"{given} does not exist: give a CSV or Parquet of paths and labels (--data-dir FILE).")
    return given


def _good(
    root: Path, path: Path, rows: Iterable[Row], *, has_split: bool, skip: bool, notes: list[str]
) -> Iterator[tuple[str, str, int]]:
    """Name, label and split of the rows that are as they must be; a note of the others."""
    real, folders, bad, first = root.resolve(), dict[Path, bool](), 0, ""
    for number, values in rows:
        fault = "not as many values as the header" if values is None else _fault(root, real, values, folders, has_split)
        if fault is None and values is not None:
            yield str(PurePosixPath(values[0])), _label(values[1]), _part(values[2]) if has_split else -1
            continue
        message = f"{path}, row {number}: {fault}"
        if not skip:
            raise DataError(f"{message} (--skip-bad-rows leaves such rows out).")
        bad, first = bad + 1, first or message
    if bad:
        notes.append(f"{bad:,} bad rows left out; the first: {first}")


def _fault(root: Path, real: Path, values: Sequence[str], folders: dict[Path, bool], has_split: bool) -> str | None:  # noqa: PLR0911
    """What is wrong with a row; None if nothing is."""
    name, label, split = values
    pure = PurePosixPath(name)
    if not name or len(name) > _LONGEST or "\0" in name:
        return "no path, or one that is too long"
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name[:3]:
        return f"the path {name[:120]!r} leads out of the folder of the table: it must be relative to it, without '..'"
    file = root / pure
    if not file.is_file():
        return f"there is no file {name[:120]!r} in {root}"
    if file.parent not in folders:
        folders[file.parent] = file.parent.resolve().is_relative_to(real)
    if not folders[file.parent] or (file.is_symlink() and not file.resolve().is_relative_to(real)):
        return f"the path {name[:120]!r} is a link that leads out of {root}"
    if not _label(label):
        return "no label"
    if has_split and _part(split) < 0:
        return f"split {split[:40]!r} is none of train, val, test"
    return None


def _label(text: str) -> str:
    """``3.0`` is 3: what pandas makes of a whole number."""
    text = text.strip()
    whole = text.removesuffix(".0")
    return whole if whole.isdigit() else text


def _part(text: str) -> int:
    word = text.strip().lower()
    return next((part for part, known in enumerate(ROLES) if word in known), -1)
