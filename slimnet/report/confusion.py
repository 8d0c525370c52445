"""Which classes are taken for which, and how well each is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slimnet.errors import ArgumentError
from slimnet.report._figure import BLUE, INK, MUTED, ORANGE, Words, check_picture, new_figure, save
from slimnet.report.numbers import percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from slimnet.report._figure import Axes

MOST_COUNTS, MOST_NAMES, MOST_BARS = 12, 30, 25
SPLIT_NAMES = {"test": "test", "val": "validation"}
LEVEL_LETTERS = 3  # names of columns up to this length are not turned


@dataclass(frozen=True)
class ClassScores:
    """How well each class is recognised.

    Attributes:
        classes: their names.
        confusion: rows are true classes, columns predicted ones; numbers of images.
        recall: share of the images of a class that is found; None where there are none.
        f1: harmonic mean of recall and precision; None where a class neither occurs nor is predicted.
        macro_f1: mean of ``f1`` over the classes that have one.
    """

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    recall: tuple[float | None, ...]
    f1: tuple[float | None, ...]
    macro_f1: float | None


def plot_confusion(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], path: Path | str, *, tested_on: str = "test"
) -> Words:
    """Draw a confusion matrix: colours are shares of the true class; numbers are images, up to 12 classes.

    Args:
        confusion: (classes, classes); rows are true classes, columns predicted ones.
        classes: their names.
        path: a .png, .svg or .pdf file.
        tested_on: the split of the images, ``"test"`` or ``"val"``.

    Returns:
        The picture in words.

    Raises:
        ArgumentError: if the matrix does not fit the names, or the ending is another.
        SlimnetError: if matplotlib is not installed.
    """
    path = check_picture(path)
    counts = np.asarray(confusion)
    if not classes or counts.shape != (len(classes), len(classes)):
        raise ArgumentError(f"the confusion of {len(classes)} classes must be a square matrix, got shape {counts.shape}.")
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    words = _confusion_words(counts, classes, tested_on)
    figure, axes = new_figure(words.title, height=4.2)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= MOST_COUNTS:
        _write_counts(axes, counts, shares)
    if len(classes) <= MOST_NAMES:
        size = 9 if len(classes) <= MOST_COUNTS else 7
        _name_columns(axes, classes, size)
        axes.set_yticks(range(len(classes)), classes, fontsize=size)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class", fontsize=9, color=MUTED)
    axes.set_ylabel("true class", fontsize=9, color=MUTED)
    save(figure, path)
    return words


def _name_columns(axes: Axes, classes: Sequence[str], size: int) -> None:
    axes.set_xticks(range(len(classes)), classes, fontsize=size)
    if max(map(len, classes)) > LEVEL_LETTERS:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")


def _write_counts(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    size = 8.5 if counts.max() < 1000 else 7
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.55 else INK
        axes.text(column, row, str(count), ha="center", va="center", fontsize=size, color=colour if count else "#9aa3af")


def _confusion_words(counts: NDArray[np.int64], classes: Sequence[str], tested_on: str) -> Words:
    total, right = int(counts.sum()), int(np.trace(counts))
    wrong = counts * (1 - np.eye(len(classes), dtype=counts.dtype))
    row, column = divmod(int(wrong.argmax()), len(classes))
    worst = f"{classes[row]} taken for {classes[column]} ({wrong[row, column]:,} of {counts[row].sum():,})"
    said = f"most often {worst}" if wrong.any() else "no confusion"
    return Words(
        title=f"Confusion: {total - right:,} of {total:,} images are wrong, {said}",
        alt=f"Confusion matrix of {len(classes)} classes over {total:,} {SPLIT_NAMES.get(tested_on, tested_on)} images: "
        f"{right:,} on the diagonal, {said}.",
        aid="Rows are true classes, columns predicted ones; the darker a cell, the larger its share of the row"
        + (", and the number counts images." if len(classes) <= MOST_COUNTS else "."),
    )


def plot_class_scores(scores: ClassScores, path: Path | str) -> Words:
    """Draw F1 and recall of each class, and macro-F1; of more than 25 classes, the 25 lowest.

    Else as :func:`plot_confusion`.
    """
    path = check_picture(path)
    known = [
        (f1, recall, name) for f1, recall, name in zip(scores.f1, scores.recall, scores.classes, strict=True) if f1 is not None
    ]
    if not known:
        raise ArgumentError("there are no classes to draw.")
    known.sort(key=lambda entry: entry[0], reverse=True)
    shown = known[-MOST_BARS:]
    words = _scores_words(scores, shown, len(known))
    figure, axes = new_figure(words.title, height=1.5 + 0.28 * len(shown))
    rows = range(len(shown))
    axes.barh(rows, [f1 for f1, _, _ in shown], color=BLUE, height=0.62, label="F1")
    found = [(row, recall) for row, (_, recall, _) in enumerate(shown) if recall is not None]
    axes.plot(
        [x for _, x in found], [y for y, _ in found], "D", color=ORANGE, markersize=5, markeredgecolor="white", label="recall"
    )
    for row, (f1, _, _) in enumerate(shown):
        axes.text(0.012, row, f"{f1:.3f}", va="center", fontsize=8, color="white" if f1 > 0.15 else INK)
    if scores.macro_f1 is not None:
        axes.axvline(scores.macro_f1, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), label="macro-F1")
    axes.set_yticks(rows, [name for _, _, name in shown], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.margins(y=0.02)
    axes.tick_params(axis="y", length=0)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    order = [label for label in ("F1", "recall", "macro-F1") if label in handles]
    figure.legend([handles[label] for label in order], order, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    save(figure, path)
    return words


def _scores_words(scores: ClassScores, shown: Sequence[tuple[float, float | None, str]], known: int) -> Words:
    low, _, lowest = shown[-1]
    part = "" if len(shown) == known else f" The {len(shown)} lowest of {known} classes are drawn."
    macro = "–" if scores.macro_f1 is None else f"{scores.macro_f1:.3f}"
    listed = ", ".join(f"{name} {f1:.3f} (recall {percent(recall)})" for f1, recall, name in shown)
    return Words(
        title=f"F1 by class: macro-F1 {macro}; {lowest} is lowest, {low:.3f}",
        alt=f"Bar chart. {listed}.{part}",
        aid="F1 is the harmonic mean of precision and recall; macro-F1 counts every class alike, however many images it has."
        + part,
    )
