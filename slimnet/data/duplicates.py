"""Images that are there twice: inside the training split, and across splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from slimnet.data.dataset import Dataset, Split

_CHUNK = 1024


@dataclass(frozen=True)
class Duplicates:
    """How many images of a data set are exact copies, pixel for pixel, whatever their labels.

    Attributes:
        in_train: training images that repeat one before them.
        val_in_train: validation images that also stand in the training split.
        test_in_train: test images that also stand in the training split.
        val_in_test: validation images that also stand in the test split.
        constant: images of all splits whose pixels are all the same.
    """

    in_train: int
    val_in_train: int
    test_in_train: int
    val_in_test: int
    constant: int

    def as_dict(self) -> dict[str, int]:
        """As JSON values."""
        return asdict(self)


def duplicates(dataset: Dataset) -> Duplicates:
    """Count the images of ``dataset`` that are there twice."""
    return _count(dataset.train, dataset.val, dataset.test)


def leaked(train: Split, others: Sequence[Split]) -> Tensor:
    """(N,) bool: which images of ``train`` also stand in one of ``others``."""
    away = {pixels for split in others for pixels in _pixels(split)}
    return torch.tensor([pixels in away for pixels in _pixels(train)], dtype=torch.bool)


def overlap_notes(train: Split, val: Split, test: Split) -> tuple[str, ...]:
    """A line that tells how many images stand in more than one split; none where none does."""
    found = _count(train, val, test)
    if not found.val_in_train and not found.test_in_train:
        return ()
    return (
        f"{found.val_in_train:,} of {len(val):,} validation and {found.test_in_train:,} of {len(test):,} test images "
        "also stand in the training split (--drop-leaked leaves them out of it)",
    )


def clear_of(train: Split, others: Sequence[Split], *, drop: bool) -> tuple[Split, tuple[str, ...]]:
    """The training split, without images that also stand in ``others`` (validation, test) if they are to go; and what to say."""
    val, test = others
    notes = overlap_notes(train, val, test)
    if not drop:
        return train, notes
    away = leaked(train, others)
    note = f"{int(away.sum()):,} training images left out that also stand in validation or test"
    return train.subset((~away).nonzero().flatten()), (*notes, note)


def _count(train: Split, val: Split, test: Split) -> Duplicates:
    seen, held, final = (_pixels(split) for split in (train, val, test))
    trained, tested = set(seen), set(final)
    return Duplicates(
        in_train=len(seen) - len(trained),
        val_in_train=sum(pixels in trained for pixels in held),
        test_in_train=sum(pixels in trained for pixels in final),
        val_in_test=sum(pixels in tested for pixels in held),
        constant=sum(pixels.count(pixels[0]) == len(pixels) for part in (seen, held, final) for pixels in part),
    )


def _pixels(split: Split) -> list[bytes]:
    """The pixels of each image."""
    chunks = torch.split(torch.arange(len(split)), _CHUNK)
    return [image.tobytes() for chunk in chunks for image in split.take(chunk).cpu().numpy()]
