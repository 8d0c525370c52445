"""Draw samples such that each class keeps its share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from slimnet.data.batches import Batches
from slimnet.data.dataset import Dataset, Split
from slimnet.errors import ArgumentError


def stratified_indices(labels: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw ``count`` samples such that each class keeps its share.

    Shares are rounded by largest remainder; where samples are left over, a class without any comes first.

    Args:
        labels: (N,) int64.
        count: how many to draw, from 0 to N.
        generator: a generator on the CPU; the result is a function of its state.

    Returns:
        (count,) int64, sorted, each index once.

    Raises:
        ArgumentError: if ``count`` is not in [0, N].

    Example:
        >>> stratified_indices(torch.tensor([0, 0, 0, 0, 1, 1]), 3, Generator().manual_seed(0)).shape
        torch.Size([3])
    """
    labels = labels.cpu()
    if not 0 <= count <= len(labels):
        raise ArgumentError(f"`count` must be between 0 and the {len(labels)} samples, got {count}.")
    shuffled = torch.randperm(len(labels), generator=generator)
    if not count:
        return shuffled[:0]
    quotas = _quotas(torch.bincount(labels).tolist(), count)
    members = [shuffled[labels[shuffled] == label] for label in range(len(quotas))]
    return torch.cat([member[:quota] for member, quota in zip(members, quotas, strict=True)]).sort().values


def calibration_batches(
    dataset: Dataset, count: int, batch_size: int, *, device: torch.device | str = "cpu"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Some training images without augmentation, always the same, each class with its share.

    Args:
        dataset: what they are of.
        count: how many; all where there are fewer.
        batch_size: images a batch.
        device: where they are wanted.

    Returns:
        Normalised float images (N, C, H, W) and labels (N,).
    """
    most = min(count, len(dataset.train))
    chosen = stratified_indices(dataset.train.labels, most, Generator().manual_seed(0))
    return Batches(dataset.train.subset(chosen), min(batch_size, most), mean=dataset.mean, std=dataset.std, device=device).epoch(
        0
    )


def _quotas(sizes: list[int], count: int) -> list[int]:
    """Whole numbers in proportion to ``sizes`` that sum to ``count``."""
    total = sum(sizes)
    quotas = [size * count // total for size in sizes]
    order = sorted(
        (label for label, size in enumerate(sizes) if size),
        key=lambda label: (quotas[label] > 0, -(sizes[label] * count % total), label),
    )
    for label in order[: count - sum(quotas)]:
        quotas[label] += 1
    return quotas


def real_batch(split: Split, dataset: Dataset, count: int) -> Tensor:
    """The first ``count`` images of a split as the network takes them: (n, C, H, W) float32."""
    subset = split.subset(torch.arange(min(count, len(split))))
    images, _ = next(iter(Batches(subset, count, mean=dataset.mean, std=dataset.std).epoch(0)))
    return images.contiguous()
