"""Which filters are selected, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import ArgumentError
from slimnet.report._figure import (
    GRID,
    INK,
    SAND,
    Words,
    by_epoch,
    check_picture,
    new_figure,
    rgb,
    save,
)
from slimnet.report.churn import Selection, churn, histories, when_settled

if TYPE_CHECKING:
    from slimnet.report._figure import Axes

MOST_GROUPS = 32
MOST_ROWS = 100  # of a strip: more would be finer than the picture
INCHES_A_FILTER, LEAST_INCHES, MOST_INCHES, TOTAL_INCHES, GAP_INCHES = 0.009, 0.16, 0.55, 6.0, 0.06


def order(history: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The order in which the filters of a group are drawn: what never changes at the edges, what changed last in the middle.

    Args:
        history: (epochs, size).

    Returns:
        (size,) indices: first the filters that end unselected, then those that end selected.
    """
    changes = history[1:] != history[:-1]
    steps = np.arange(1, len(history))[:, None]
    last = np.max(changes * steps, axis=0, initial=0)
    return np.argsort(np.where(history[-1], 2 * len(history) - last, last), kind="stable")


def plot_selection(selection: Selection, path: Path | str) -> Words:
    """Draw a heat map: epochs × filters, a strip a channel group.

    At most 32 groups are drawn, those that changed the most.

    Args:
        selection: what was selected, one mapping an epoch.
        path: a .png, .svg or .pdf file.

    Returns:
        The picture in words.

    Raises:
        ArgumentError: if there is nothing to draw, or the ending is another.
        SlimnetError: if matplotlib is not installed.
    """
    path = check_picture(path)
    found = histories(selection)
    if not found:
        raise ArgumentError("there is no selection to draw.")
    shown = _most_changed(found)
    words = _words(found, shown, when_settled(*churn(selection)))
    strips = _heights([found[name].shape[1] for name in shown])
    figure, axes = new_figure(words.title, height=1.2 + sum(strips) + GAP_INCHES * len(strips))
    centres, top = [], 0.0
    for name, inches in zip(shown, strips, strict=True):
        _strip(axes, found[name], top, top + inches)
        centres.append(top + inches / 2)
        top += inches + GAP_INCHES
    by_epoch(axes, len(selection))
    axes.grid(visible=False)
    axes.set_xlim(0.5, len(selection) + 0.5)
    axes.set_ylim(top, -GAP_INCHES)
    axes.set_aspect("auto")
    axes.set_yticks(centres, shown, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    save(figure, path)
    return words


def _heights(sizes: Sequence[int]) -> list[float]:
    """Inches of the strips: by size, within limits, and smaller where there are many."""
    inches = [min(max(INCHES_A_FILTER * size, LEAST_INCHES), MOST_INCHES) for size in sizes]
    return [max(height * min(1.0, TOTAL_INCHES / sum(inches)), LEAST_INCHES) for height in inches]


def _most_changed(found: Mapping[str, NDArray[np.bool_]]) -> list[str]:
    """The groups to draw, in execution order."""
    changes = {name: float((history[1:] != history[:-1]).mean()) if len(history) > 1 else 0.0 for name, history in found.items()}
    chosen = set(sorted(changes, key=changes.__getitem__, reverse=True)[:MOST_GROUPS])
    return [name for name in found if name in chosen]


def _strip(axes: Axes, history: NDArray[np.bool_], top: float, bottom: float) -> None:
    share = _at_most(history.T[order(history)].astype(np.float64), MOST_ROWS)[..., None]
    colours = share * np.array(rgb(SAND)) + (1 - share) * np.array(rgb(GRID))
    axes.imshow(colours, extent=(0.5, len(history) + 0.5, bottom, top), interpolation="nearest")
    text = f"{int(history[-1].sum())} of {history.shape[1]}"
    axes.text(1.02, (top + bottom) / 2, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK)


def _at_most(rows: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """(size, epochs) averaged over neighbouring rows, so that no more remain than can be seen."""
    every = -(-len(rows) // most)
    starts = np.arange(0, len(rows), every)
    counts = np.diff(np.append(starts, len(rows)))
    mean: NDArray[np.float64] = np.add.reduceat(rows, starts, axis=0) / counts[:, None]
    return mean


def _words(found: Mapping[str, NDArray[np.bool_]], shown: Sequence[str], when: str) -> Words:
    total = sum(history.shape[1] for history in found.values())
    last = sum(int(history[-1].sum()) for history in found.values())
    part = "" if len(shown) == len(found) else f" The {len(shown)} groups of {len(found)} that changed the most are drawn."
    return Words(
        title=f"Selection: {last} of {total} filters at the end; {when}",
        alt=f"Heat map of {len(shown)} channel groups, epochs by filters.{part} {last} of {total} filters end selected.",
        aid="A row is a filter, orange while it is selected: rows at the edges of a strip never change, those in the middle "
        f"changed last; right, the number selected at the end.{part}",
    )
