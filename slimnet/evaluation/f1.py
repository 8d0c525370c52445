"""F1 from a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

Confusion = Sequence[Sequence[int]]
"""Rows are true classes, columns predicted ones; numbers of images."""


def f1_scores(confusion: Confusion) -> tuple[float | None, ...]:
    """F1 of each class, 2TP / (2TP + FP + FN); None where the class neither occurs nor is predicted.

    Example:
        >>> f1_scores([[3, 1, 0], [1, 1, 0], [0, 0, 0]])
        (0.75, 0.5, None)
    """
    true, found = [sum(row) for row in confusion], [sum(column) for column in zip(*confusion, strict=True)]
    both = [row[i] for i, row in enumerate(confusion)]
    return tuple(2 * hit / (t + f) if t + f else None for hit, t, f in zip(both, true, found, strict=True))


def macro_f1(confusion: Confusion) -> float:
    """The mean F1 of the classes that occur or are predicted, in [0, 1]; 0 where there is none.

    Example:
        >>> macro_f1([[3, 1, 0], [1, 1, 0], [0, 0, 0]])
        0.625
    """
    scores = [score for score in f1_scores(confusion) if score is not None]
    return sum(scores) / len(scores) if scores else 0.0
