"""A data set of Hugging Face's ``datasets`` on disk, as ``save_to_disk`` leaves it: pictures and labels in Arrow files."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slimnet.data._source import Request, Source
from slimnet.data.about import About
from slimnet.data.classes import expression_order, sorted_classes
from slimnet.data.dataset import Split
from slimnet.data.decode import decoded, header
from slimnet.data.images import ImageFiles
from slimnet.data.layouts import ROLES
from slimnet.data.listing import NO_TEST, TEST_SHARE
from slimnet.data.strata import stratified_indices
from slimnet.errors import DataError, whole_text
from slimnet.files import read_json
from slimnet.files.untrusted import member, refuse_links

ABOUT = {"hf": About()}

_LABELS = ("label", "labels", "class", "target", "fine_label", "emotion")
_SEED = 1797


@dataclass(frozen=True, eq=False)
class RowFiles:
    """Pictures in a column of Arrow files, which are mapped into memory, not read."""

    rows: Any
    column: str
    name: str
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def data(self, place: int) -> bytes:
        """The bytes of one."""
        found = self.rows[int(self.indices[place])][self.column]
        if not isinstance(found, dict) or not isinstance(found.get("bytes"), bytes):
            raise DataError(f"{self.called(place)} has no bytes, only the name of a file elsewhere: save the data set with them.")
        return bytes(found["bytes"])

    def image(self, place: int, channels: int, size: tuple[int, int] | None) -> Tensor:
        """One picture, decoded, converted and brought to a size."""
        return decoded(io.BytesIO(self.data(place)), self.called(place), channels=channels, size=size)

    def called(self, place: int) -> str:
        """Its row."""
        return f"{self.name}, row {int(self.indices[place])}"

    def subset(self, indices: Tensor) -> RowFiles:
        """Some of them."""
        return replace(self, indices=self.indices[indices])


@dataclass(frozen=True, eq=False)
class _Part:
    files: RowFiles
    labels: list[Any]
    names: tuple[str, ...] | None


def load(request: Request) -> Source:
    """Load what ``save_to_disk`` left: a ``DatasetDict`` with its splits, or a ``Dataset``, of which splits are drawn.

    Raises:
        DataError: if ``datasets`` is not installed, it is no such folder, or it has no column of pictures or of labels.
    """
    root = request.data_dir
    if root is None or not root.is_dir():
        raise DataError(f"hf needs a folder that datasets' save_to_disk wrote, got {root} (--data-dir).")
    parts = {part: _opened(folder) for part, folder in _folders(root).items()}
    if 0 not in parts:
        raise DataError(f"{root} has no split called train.")
    classes = parts[0].names or sorted_classes({str(label) for part in parts.values() for label in part.labels})
    channels, size = _format(parts, request.image_size)
    total = sum(len(part.files) for part in parts.values()) * channels * size[0] * size[1]
    made = {
        number: _split(part, classes, ImageFiles(part.files, channels, size), resident=total <= request.resident_bytes)
        for number, part in parts.items()
    }
    train, val, test = made[0], made.get(1), made.get(2)
    notes: tuple[str, ...] = ()
    if test is None and val is not None:
        test, notes = val, (NO_TEST,)
    elif test is None:
        train, test, notes = _drawn(train)
    tested_on = "val" if test is val else "test"
    return Source(classes, train, test, val=val, notes=notes, order=expression_order(classes), tested_on=tested_on)


def _folders(root: Path) -> dict[int, Path]:
    """Split → its folder; ``root`` itself trains where it is one data set."""
    refuse_links(root)
    if (root / "state.json").is_file():
        return {0: root}
    if not (root / "dataset_dict.json").is_file():
        raise DataError(f"{root} is not what datasets' save_to_disk writes: it has no dataset_dict.json and no state.json.")
    names = read_json(member(root, "dataset_dict.json")).get("splits")
    found = {}
    for name in names if isinstance(names, list) else []:
        part = next((part for part, known in enumerate(ROLES) if isinstance(name, str) and name.lower() in known), None)
        if part is not None and part not in found and (root / name).is_dir():
            found[part] = root / name
    return found


def _opened(folder: Path) -> _Part:
    """One data set: its files lie in its folder, its pictures stay bytes."""
    try:
        import datasets
    except ImportError:
        raise DataError("hf needs Hugging Face's datasets: pip install 'slimnet[hf]'.") from None
    refuse_links(folder)
    files = read_json(member(folder, "state.json")).get("_data_files")
    for file in files if isinstance(files, list) else [None]:
        member(folder, str(file.get("filename")) if isinstance(file, dict) else "")
    try:
        rows = datasets.load_from_disk(str(folder)).with_format(None)
        features = rows.features
        column = next((name for name, kind in features.items() if isinstance(kind, datasets.Image)), None)
        label = next((name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)), None)
        label = label or next((name for name in _LABELS if name in features), None)
        if column is None or label is None:
            raise DataError(f"{folder} must have a column of pictures and one of labels; it has {', '.join(features)}.")
        kind = features[label]
        names = tuple(kind.names) if isinstance(kind, datasets.ClassLabel) else None
        labels = list(rows[label])
        pictures = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} cannot be read by datasets: {whole_text(error)[:200]}.") from None
    return _Part(RowFiles(pictures, column, str(folder), torch.arange(len(labels))), labels, names)


def _format(parts: dict[int, _Part], asked: int | None) -> tuple[int, tuple[int, int]]:
    channels, first = 1, None
    for number, part in parts.items():
        for place in range(len(part.files)):
            name = part.files.called(place)
            depth, size = header(io.BytesIO(part.files.data(place)), name)
            channels, first = max(channels, depth if number == 0 else 1), first or size
            if asked is None and size != first:
                raise DataError(f"{name} is {size[0]}×{size[1]}, the first {first[0]}×{first[1]}: give --image-size.")
    if first is None:
        raise DataError("hf: the data set holds no picture.")
    return channels, (asked, asked) if asked is not None else first


def _split(part: _Part, classes: tuple[str, ...], files: ImageFiles, *, resident: bool) -> Split:
    if part.names is not None:
        if part.names != classes:
            raise DataError(f"{part.files.name} has other classes than train: {', '.join(part.names[:8])}.")
        labels = np.asarray(part.labels, np.int64)
    else:
        places = {name: place for place, name in enumerate(classes)}
        labels = np.asarray([places[str(label)] for label in part.labels], np.int64)
    if len(labels) and labels.min() < 0:
        raise DataError(f"{part.files.name} has pictures without a label (−1).")
    return Split(files.decoded() if resident else files, torch.from_numpy(labels))


def _drawn(whole: Split) -> tuple[Split, Split, tuple[str, ...]]:
    count = round(len(whole) * TEST_SHARE)
    held = stratified_indices(whole.labels, count, torch.Generator().manual_seed(_SEED))
    kept = torch.ones(len(whole), dtype=torch.bool)
    kept[held] = False
    note = f"the pictures are in no split: {count:,} of {len(whole):,} are drawn for test, each class in its share"
    return replace(whole.subset(kept.nonzero().flatten()), indices=None), whole.subset(held), (note,)
