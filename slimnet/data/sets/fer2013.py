"""FER2013: 35,887 grey faces of 48×48 pixels with seven expressions; and FER+, ten people's votes on the same faces.

Read from ``fer2013.csv`` (emotion, pixels, Usage), ``icml_face_data.csv`` (the same columns, blanks before their names), or
``train.csv``, ``val.csv`` and ``test.csv``. The official splits hold: Training trains, PublicTest validates, PrivateTest tests.

References:
    Goodfellow et al., *Challenges in Representation Learning: A report on three machine learning contests*, ICONIP 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from slimnet.data._cache import fingerprint, read_copy, write_copy
from slimnet.data._source import Request, Source, channel_statistics, resized
from slimnet.data.about import About
from slimnet.data.classes import match_classes
from slimnet.data.dataset import Split
from slimnet.data.duplicates import clear_of
from slimnet.data.layouts import roles
from slimnet.data.sets import folder as folders
from slimnet.data.sets.fer_rows import NO_USAGE, SIDE, USAGES, Rows, read_rows
from slimnet.data.sets.ferplus import FERPLUS_CLASSES, counted, ferplus_targets, ferplus_votes
from slimnet.data.strata import stratified_indices
from slimnet.errors import DataError
from slimnet.settings import Augment, does_nothing

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_SHARED = {"drop_leaked": False, "skip_bad_rows": False}
OPTIONS = {"fer2013": {**_SHARED, "ferplus_votes": False}, "ferplus": {**_SHARED, "without_contempt": False}}

_FACES = (
    "It was trained on tight crops of single faces in grey: give it a face, not a scene, cropped as the data are.",
    "The labels are seven (FER+: eight) words for what other people saw in a picture, posed or not; they do not say what the "
    "person felt, and what lies between the words has none.",
    "The labels are noisy: people who were given the same pictures agreed with them for about 65 % (Goodfellow et al., 2013). "
    "A higher accuracy is agreement with these labels, not with people.",
    "The pictures were gathered by a web search for words of feeling: who is in them is not known, and hardly like the people "
    "of any place. They carry no labels of age, sex or skin: whether it errs more often for one group than for another was not "
    "measured, and cannot be with these data. Measure it on your own pictures before you rely on it.",
    "Not for decisions about people: not for hiring, policing, teaching, health or credit.",
)
_TERMS = "research use only (Goodfellow et al., Challenges in Representation Learning, ICONIP 2013)"
ABOUT = {
    "fer2013": About(_TERMS, _FACES),
    "ferplus": About(f"{_TERMS}; votes: MIT (Barsoum et al., ICMI 2016)", _FACES),
}

_WHOLE = ("fer2013.csv", "icml_face_data.csv")
_PARTS = ("train.csv", "val.csv", "test.csv")
_VAL = ("val.csv", "validation.csv", "valid.csv")
_VOTES = "fer2013new.csv"
_FORMAT = "fer2013/2"
_SEED = 2013  # of splits that are drawn
_PLACES = match_classes(FERPLUS_CLASSES, CLASSES, who="FER+", whose="FER2013").outputs  # of each class among FER+'s
_ENOUGH, _LEAST = 100, 0.4  # faces, and on how many of them labels and votes agree at least; by chance 0.18, as published 0.64
_AUGMENT = Augment(crop_padding=4, flip=True, rotate=10.0, scale=0.1, erase=0.25)


def load(request: Request) -> Source:
    """Load FER2013 (``fer2013``), or the same faces with FER+'s majority labels and shares of votes (``ferplus``).

    Raises:
        DataError: if no folder is given, files are missing, or a row is not as it must be.
    """
    if (pictures := _pictures(request)) is not None:
        return pictures
    folder, names = _found(request)
    rows = _joined([cached_rows(folder / name, skip_bad_rows=request.options["skip_bad_rows"]) for name in names])
    labels, soft, kept = rows.labels, None, torch.ones(len(rows.labels), dtype=torch.bool)
    classes: tuple[str, ...] = CLASSES
    voted: tuple[str, ...] = ()
    if request.name == "ferplus":
        labels, soft, kept = ferplus_targets(_votes(request.name, folder, names, rows))
        classes = FERPLUS_CLASSES
        if request.options["without_contempt"]:
            classes, soft, kept = _without_contempt(labels, soft, kept)
    elif request.options["ferplus_votes"]:
        soft = half_voted(labels, _votes(request.name, folder, names, rows))
        voted = ("half of each soft label is FER+'s votes (Barsoum et al., ICMI 2016)",)
    rows, drawn = _drawn(rows, labels) if bool((rows.usage == NO_USAGE).any()) else (rows, ())
    train, val, test = (_split(rows, labels, soft, kept & (rows.usage == part)) for part in range(3))
    for part, split in zip(USAGES, (train, val, test), strict=True):
        if not len(split):
            raise DataError(f"{request.name}: {folder / names[0]} holds no row for {part}.")
    statistics = channel_statistics(train)  # the same with and without what is left out below
    train, found = clear_of(train, val, test, drop=request.options["drop_leaked"])
    notes = (*_skipped(rows), *drawn, *found, *voted)
    train, val, test = (_resized(part, request.image_size) for part in (train, val, test))
    augment = _scaled(_AUGMENT, request.image_size)
    return Source(classes, train, test, val=val, augment=augment, notes=notes, statistics=statistics)


def _pictures(request: Request) -> Source | None:
    """FER2013 as folders of pictures, with the official labels; None where the folder holds a CSV, or there is none."""
    given = request.data_dir
    if request.name != "fer2013" or given is None or not given.is_dir() or any(given.glob("*.csv")) or not roles(given):
        return None
    if request.options["ferplus_votes"]:
        raise DataError(f"FER+'s votes follow the order of rows in {' or '.join(_WHOLE)}: {given} holds pictures instead.")
    source = folders.find(given).source(request)
    if source.order is None:
        raise DataError(f"fer2013: {given} must have the classes {', '.join(CLASSES)}; it has {', '.join(source.classes)}.")
    notes = source.notes
    if request.options["skip_bad_rows"]:
        notes += (does_nothing("skip_bad_rows", "these are pictures, which have no rows"),)
    leaks: Literal["tell", "drop"] = "drop" if request.options["drop_leaked"] else "tell"
    return replace(source, notes=notes, leaks=leaks, augment=_scaled(_AUGMENT, request.image_size))


def cached_rows(path: Path, *, skip_bad_rows: bool = False) -> Rows:
    """What `read_rows` gives, from a binary copy where the file is as it was when the copy was made.

    Raises:
        DataError: as `read_rows`.
    """
    key = fingerprint(path, _FORMAT)
    copy = read_copy(path, key)
    if copy is None:
        rows = read_rows(path, skip_bad_rows=skip_bad_rows)
        tensors = {"images": rows.images, "labels": rows.labels, "usage": rows.usage, "rows": rows.rows}
        write_copy(path, key, tensors, {"bad": list(rows.bad), "bad_count": rows.bad_count})
        return rows
    tensors, about = copy
    if about["bad_count"] and not skip_bad_rows:
        raise DataError(f"{about['bad'][0]} (--skip-bad-rows leaves such rows out).")
    return Rows(**tensors, bad=tuple(about["bad"]), bad_count=about["bad_count"])


def _found(request: Request) -> tuple[Path, tuple[str, ...]]:
    """The folder, and the names of the files to read in it."""
    given = request.data_dir
    if given is None:
        raise DataError(f"{request.name} needs a data folder: the one that holds {_WHOLE[0]} (--data-dir).")
    for folder in (given, given / "fer2013"):
        for names in (*((name,) for name in _WHOLE), *((_PARTS[0], val, _PARTS[2]) for val in _VAL), _PARTS[:1]):
            if all((folder / name).is_file() for name in names):
                return folder, names
    wanted = f"{', '.join(_WHOLE)}, or {', '.join(_PARTS)}"
    raise DataError(f"{request.name}: looked for {wanted} in {given} and {given / 'fer2013'}: not there.")


def _joined(parts: Sequence[Rows]) -> Rows:
    """One file as it is; of three, the first trains, the second validates, the third tests."""
    if len(parts) == 1:
        return parts[0]
    return Rows(
        images=torch.cat([part.images for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        usage=torch.cat([torch.full_like(part.usage, place) for place, part in enumerate(parts)]),
        rows=torch.cat([part.rows for part in parts]),
        bad=tuple(line for part in parts for line in part.bad),
        bad_count=sum(part.bad_count for part in parts),
    )


def _drawn(rows: Rows, labels: Tensor) -> tuple[Rows, tuple[str, ...]]:
    """A tenth for validation and one for test, of each class, always the same, where the file does not say which is which."""
    usage, count = torch.zeros_like(rows.usage), round(len(labels) / 10)
    held = stratified_indices(labels, 2 * count, Generator().manual_seed(_SEED))
    tested = stratified_indices(labels[held], count, Generator().manual_seed(_SEED))
    usage[held], usage[held[tested]] = 1, 2
    note = f"there is no column Usage: {count:,} rows are drawn for validation and {count:,} for test, each class in its share"
    return replace(rows, usage=usage), (note,)


def _votes(name: str, folder: Path, names: Sequence[str], rows: Rows) -> Tensor:
    """(N, 10) votes on the good rows; refused where the two files do not tell of the same faces."""
    if len(names) > 1:
        wanted = f"{' or '.join(_WHOLE)} in {folder}"
        raise DataError(f"{name} needs {wanted}: its votes follow the order of rows there.")
    path = folder / _VOTES
    if bool((rows.usage == NO_USAGE).any()):
        raise DataError(
            f"{folder / names[0]} has no column Usage, by which FER+'s votes are compared: take the file as published."
        )
    votes, usage = ferplus_votes(path)
    total = len(rows.rows) + rows.bad_count
    if len(votes) != total:
        raise DataError(f"{path} has {len(votes):,} rows, {names[0]} {total:,}: they do not belong together.")
    other = (usage[rows.rows] != rows.usage).nonzero().flatten().tolist()
    if other:
        row = int(rows.rows[other[0]])
        known = f"row {row + 1} is {USAGES[usage[row]]}, in {names[0]} it is not"
        raise DataError(f"{path}: {known}: they do not belong together.")
    voted = votes[rows.rows]
    likely = counted(voted)[:, list(_PLACES)]
    seen = likely.sum(dim=1) > 0
    agreed = float((likely.argmax(dim=1) == rows.labels)[seen].float().mean())
    if int(seen.sum()) >= _ENOUGH and agreed < _LEAST:
        share = f"labels and votes agree on {agreed:.0%} of the faces, where more than half is to be expected"
        raise DataError(f"{path} and {names[0]} do not have the same order: {share}.")
    return voted


def half_voted(labels: Tensor, votes: Tensor) -> Tensor:
    """Soft labels for FER2013's classes: half the label, half the shares of the votes for these; without votes the label alone.

    Args:
        labels: (N,), from 0, of `CLASSES`.
        votes: (N, 10), as `ferplus_votes` gives them; a single vote counts as none.

    Returns:
        (N, 7) float32; each row sums to 1.
    """
    shares = _shares(counted(votes)[:, list(_PLACES)])
    alone = one_hot(labels, len(CLASSES)).float()
    return torch.where(shares.sum(dim=1, keepdim=True) > 0, (alone + shares) / 2, alone)


def _without_contempt(labels: Tensor, soft: Tensor, kept: Tensor) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """FER+'s classes, soft labels, and which faces are kept, when contempt is no class."""
    contempt = FERPLUS_CLASSES.index("contempt")  # the last
    return FERPLUS_CLASSES[:contempt], _shares(soft[:, :contempt]), kept & (labels != contempt)


def _shares(votes: Tensor) -> Tensor:
    """Each row divided by its sum: (N, classes) float32; zeros remain."""
    total = votes.sum(dim=1, keepdim=True)
    return votes.float() / torch.where(total > 0, total, 1)


def _split(rows: Rows, labels: Tensor, soft: Tensor | None, chosen: Tensor) -> Split:
    return Split(rows.images, labels, soft=soft).subset(chosen.nonzero().flatten())


def _resized(split: Split, size: int | None) -> Split:
    return Split(resized(split.take(torch.arange(len(split))), size), split.labels, split.indices, split.soft)


def _scaled(augment: Augment, size: int | None) -> Augment:
    """The same shift in parts of the image."""
    padding = augment.crop_padding if size is None else round(augment.crop_padding * size / SIDE)
    return Augment(padding, augment.flip, augment.rotate, augment.scale, augment.erase)


def _skipped(rows: Rows) -> tuple[str, ...]:
    return (f"{rows.bad_count:,} bad rows left out; the first: {rows.bad[0]}",) if rows.bad else ()
