"""Images that are there twice: inside the training split, and across splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from slimnet.data.dataset import Dataset, Split

_CHUNK = 1024
_DIGEST = 16  # bytes: two images of a million have the same once in 10^26 sets


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
    return _count(*(_seen(split) for split in (dataset.train, dataset.val, dataset.test)))


def leaked(train: Split, others: Sequence[Split]) -> Tensor:
    """(N,) bool: which images of ``train`` also stand in one of ``others``."""
    return _leaked(_seen(train), [_seen(split) for split in others])


def clear_of(train: Split, val: Split, test: Split, *, drop: bool) -> tuple[Split, tuple[str, ...]]:
    """The training split, without images that also stand in validation or test if they are to go; and what to say."""
    seen = [_seen(split) for split in (train, val, test)]
    found = _count(*seen)
    if not found.val_in_train and not found.test_in_train:
        return train, ()
    note = f"{found.val_in_train:,} of {len(val):,} validation and {found.test_in_train:,} of {len(test):,} test images also "
    if not drop:
        return train, (f"{note}stand in the training split (--drop-leaked leaves them out of it)",)
    away = _leaked(seen[0], seen[1:])
    left_out = f"{int(away.sum()):,} training images left out that also stand in validation or test"
    return train.subset((~away).nonzero().flatten()), (f"{note}stood in the training split", left_out)


@dataclass(frozen=True)
class _Seen:
    """A digest of the pixels of each image of a split, and how many images are of one value."""

    digests: list[bytes]
    constant: int


def _leaked(train: _Seen, others: Sequence[_Seen]) -> Tensor:
    away = {digest for split in others for digest in split.digests}
    return torch.tensor([digest in away for digest in train.digests], dtype=torch.bool)


def _count(train: _Seen, val: _Seen, test: _Seen) -> Duplicates:
    trained, tested = set(train.digests), set(test.digests)
    return Duplicates(
        in_train=len(train.digests) - len(trained),
        val_in_train=sum(digest in trained for digest in val.digests),
        test_in_train=sum(digest in trained for digest in test.digests),
        val_in_test=sum(digest in tested for digest in val.digests),
        constant=train.constant + val.constant + test.constant,
    )


def _seen(split: Split) -> _Seen:
    digests, constant = [], 0
    for chunk in torch.split(torch.arange(len(split)), _CHUNK):
        for image in split.take(chunk).cpu().numpy():
            digests.append(blake2b(image.tobytes(), digest_size=_DIGEST).digest())
            constant += int(image.min() == image.max())
    return _Seen(digests, constant)
