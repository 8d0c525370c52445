"""Which picture is in which split, written down: ``splits.csv`` of a run."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from slimnet.data._lines import read_lines
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
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(_HEAD)
    for name in SPLITS if dataset.tested_on == "test" else SPLITS[:2]:
        split = getattr(dataset, name)
        labels = split.labels.tolist()
        out.writerows((split.names.name(i), dataset.classes[label], name) for i, label in enumerate(labels))
    return text.getvalue().encode("utf-8", "surrogateescape")


def read_splits(folder: Path) -> dict[str, int]:
    """Name of a picture → its split. Names are only looked up among those that the data has: they lead nowhere.

    Raises:
        FileFormatError: if there is no such file, or it is not as it was written.
    """
    path, found = member(folder, SPLIT_FILE), dict[str, int]()
    with path.open("rb") as file:
        for number, line in read_lines(file):
            try:
                row = next(csv.reader([(line or b"").decode("utf-8", "surrogateescape")]), [])
            except csv.Error:
                row = []
            if number == 1 and tuple(row) == _HEAD:
                continue
            if len(row) != len(_HEAD) or row[2] not in SPLITS or number == 1:
                raise FileFormatError(f"{path}, line {number}: not a path, a label and one of {', '.join(SPLITS)}.")
            found[row[0]] = SPLITS.index(row[2])
    return found
