"""Splits of data sets, stratified and checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from slimnet.data import (
    Dataset,
    Split,
    stratified_indices,
)
from slimnet.errors import ArgumentError, DataError, SlimnetError
from test_batches import numbered


@pytest.mark.parametrize(
    ("sizes", "count", "wanted"),
    [
        ([40, 40, 20], 10, [4, 4, 2]),
        ([96, 2, 2], 12, [11, 1, 0]),  # a class without any comes before the larger remainder of 96
        ([5, 0, 5], 4, [2, 0, 2]),
        ([3, 3, 3], 9, [3, 3, 3]),
        ([3, 3, 3], 0, [0, 0, 0]),
    ],
)
def test_stratified_indices(sizes: list[int], count: int, wanted: list[int]) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=Generator().manual_seed(1))]
    drawn = [stratified_indices(labels, count, Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.bincount(labels[drawn[0]], minlength=len(sizes)).tolist() == wanted
    assert torch.equal(drawn[0], drawn[1])
    assert len(drawn[0].unique()) == count
    assert torch.equal(drawn[0], drawn[0].sort().values)
    assert count in (0, len(labels)) or not torch.equal(drawn[0], drawn[2])


def test_stratified_indices_refuses_a_count_out_of_range() -> None:
    with pytest.raises(ArgumentError, match="between 0 and the 3 samples, got 4"):
        stratified_indices(torch.tensor([0, 1, 1]), 4, Generator())


def test_subset_remembers_where_it_came_from() -> None:
    split = numbered()
    part = split.subset(torch.tensor([3, 10, 20])).subset(torch.tensor([2, 0]))
    assert part.labels.tolist() == [20, 3]
    assert part.indices is not None
    assert part.indices.tolist() == [20, 3]
    assert torch.equal(part.take(torch.tensor([0])), split.take(torch.tensor([20])))


BAD_SPLITS: list[tuple[Tensor, Tensor, str]] = [
    (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), "Images must be uint8 .* got torch.float32"),
    (
        torch.zeros(2, 4, 4, dtype=torch.uint8),
        torch.zeros(2, dtype=torch.int64),
        r"got torch.uint8 of shape \(2, 4, 4\)",
    ),
    (
        torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
        torch.zeros(2),
        "Labels must be int64 of shape .2,., got torch.float32",
    ),
    (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"of shape \(3,\)"),
]


@pytest.mark.parametrize(("images", "labels", "message"), BAD_SPLITS)
def test_bad_splits(images: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(images, labels)


def labelled(labels: list[int], side: int = 4) -> Split:
    return Split(torch.zeros(len(labels), 1, side, side, dtype=torch.uint8), torch.tensor(labels, dtype=torch.int64))


BAD_DATASETS: list[tuple[dict[str, Any], type[SlimnetError], str]] = [
    ({"test": labelled([0, 2])}, DataError, "test label 2 is out of range for 2 classes"),
    ({"val": labelled([-1, 0])}, DataError, "validation label -1 is out of range"),
    ({"train": labelled([0, 0])}, DataError, "class 'b' has no training image"),
    ({"val": labelled([])}, DataError, "the validation split is empty"),
    (
        {"test": labelled([0, 1], side=5)},
        DataError,
        r"test images are \(1, 5, 5\), training images \(1, 4, 4\)",
    ),
    ({"mean": (0.5, 0.5)}, ArgumentError, "`mean` must have 1 values"),
]


@pytest.mark.parametrize(("change", "kind", "message"), BAD_DATASETS)
def test_bad_datasets(change: dict[str, Any], kind: type[SlimnetError], message: str) -> None:
    both = labelled([0, 1])
    good = Dataset("toy", ("a", "b"), both, both, both, (0.5,), (0.5,))
    with pytest.raises(kind, match=message):
        replace(good, **change)
