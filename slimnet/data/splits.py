"""Which picture is in which split, written down: ``splits.csv`` of a run."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from slimnet.data._lines import LIMIT
from slimnet.data.dataset import Dataset
from slimnet.errors import FileFormatError
from slimnet.files.untrusted import member
from slimnet.names import SPLITS

SPLIT_FILE = "splits.csv"
_HEAD = ("path", "label", "split")


def splits_bytes(dataset: Dataset) -> bytes | None:
    """The file, a row a picture; None where no split was drawn, or pictures have no names."""
    if not dataset.is_drawn or dataset.train.names is None:
        return None
    rows = [_HEAD]
    for name in SPLITS if dataset.tested_on == "test" else SPLITS[:2]:
        split = getattr(dataset, name)
        labels = split.labels.tolist()
        rows += [(split.names.name(i), dataset.classes[label], name) for i, label in enumerate(labels)]
    text = io.StringIO()
    odd = any("\r" in row[0] + row[1] for row in rows)  # which not every Python quotes by itself
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def read_splits(folder: Path) -> dict[str, int]:
    """Name of a picture → its split. Names are only looked up among those that the data has: they lead nowhere.

    Raises:
        FileFormatError: if there is no such file, or it is not as it was written.
    """
    path, found = member(folder, SPLIT_FILE), dict[str, int]()
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(LIMIT), b"")
        rows = csv.reader(line.decode("utf-8", "surrogateescape") for line in lines)  # a name may hold the end of a line
        try:
            is_right = tuple(next(rows, ())) == _HEAD
            for row in filter(None, rows):  # blank lines are passed over
                if not (is_right := is_right and len(row) == len(_HEAD) and row[2] in SPLITS):
                    break
                found[row[0]] = SPLITS.index(row[2])
        except csv.Error:
            is_right = False
        if not is_right:
            raise FileFormatError(f"{path}, line {rows.line_num}: not a path, a label and one of {', '.join(SPLITS)}.")
    return found
