"""Which filters are selected, epoch by epoch, and how much of the selection changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import ArgumentError
from slimnet.report._figure import (
    BLUE,
    GRID,
    INK,
    ORANGE,
    SAND,
    Words,
    by_epoch,
    check_picture,
    label_ends,
    new_figure,
    percents,
    rgb,
    save,
)
from slimnet.report.curves import HEIGHT
from slimnet.report.numbers import percent

if TYPE_CHECKING:
    from slimnet.report._figure import Axes

Selection = Sequence[Mapping[str, NDArray[np.bool_]]]
"""One mapping an epoch: group name → (size,) bool, true where a filter is selected."""

MOST_GROUPS = 32
MOST_ROWS = 100  # of a strip: more would be finer than the picture
INCHES_A_FILTER, LEAST_INCHES, MOST_INCHES, TOTAL_INCHES, GAP_INCHES = 0.009, 0.16, 0.55, 6.0, 0.06


def histories(selection: Selection) -> dict[str, NDArray[np.bool_]]:
    """Group name → (epochs, size) bool; an epoch that does not name a group has none of it selected.

    Raises:
        ArgumentError: if the size of a group changes.
    """
    sizes: dict[str, int] = {}
    for epoch in selection:
        for name, chosen in epoch.items():
            if sizes.setdefault(name, len(chosen)) != len(chosen):
                raise ArgumentError(f"group {name} has {sizes[name]} filters in one epoch and {len(chosen)} in another.")
    empty = {name: np.zeros(size, dtype=np.bool_) for name, size in sizes.items()}
    return {name: np.stack([epoch.get(name, none) for epoch in selection]) for name, none in empty.items()}


def churn(selection: Selection) -> tuple[list[float], list[float]]:
    """How much of the selection changes from epoch to epoch, over all groups.

    With :math:`S_e` the filters selected in epoch e: newly selected :math:`|S_e \\setminus S_{e-1}| / |S_e|`, released
    :math:`|S_{e-1} \\setminus S_e| / |S_{e-1}|`. NaN in the first epoch, and where the denominator is 0.
    """
    found = histories(selection)
    whole = np.concatenate(list(found.values()), axis=1) if found else np.zeros((len(selection), 0), dtype=np.bool_)
    newly, released = [math.nan], [math.nan]
    for before, now in pairwise(whole):
        newly.append(_share(now & ~before, now))
        released.append(_share(before & ~now, before))
    return newly[: len(selection)], released[: len(selection)]


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else math.nan


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
    words = _words(found, shown, _when_settled(*churn(selection)))
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


def plot_churn(selection: Selection, path: Path | str) -> Words:
    """Draw the shares of the selection that are new and that are released, by epoch; else as :func:`plot_selection`."""
    path = check_picture(path)
    newly, released = churn(selection)
    if not any(not math.isnan(value) for value in newly + released):
        raise ArgumentError("there is no change of selection to draw.")
    words = Words(
        title=f"Selection churn: {_when_settled(newly, released)}",
        alt=f"Line chart by epoch of the share of selected filters that are new (at most {_most(newly)}) and that are released "
        f"(at most {_most(released)}).",
        aid="New: selected now, but not in the epoch before; released: the other way round; a rising rate θ makes some new ones.",
    )
    figure, axes = new_figure(words.title, height=HEIGHT)
    for values, colour in ((newly, ORANGE), (released, BLUE)):
        axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=1.8, marker="o", markersize=3)
    by_epoch(axes, len(selection))
    axes.set_ylim(-0.03, 1.03)
    percents(axes)
    ends = [(_last(newly), "new", ORANGE), (_last(released), "released", BLUE)]
    label_ends(axes, [end for end in ends if not math.isnan(end[0])])
    save(figure, path)
    return words


def _when_settled(newly: Sequence[float], released: Sequence[float]) -> str:
    moved = [i for i, pair in enumerate(zip(newly, released, strict=True)) if any(value > 0 for value in pair)]
    first = moved[-1] + 2 if moved else 1
    return f"unchanged from epoch {first} on" if first <= len(newly) else "the last epoch still changed it"


def _last(values: Sequence[float]) -> float:
    return next((value for value in reversed(values) if not math.isnan(value)), math.nan)


def _most(values: Sequence[float]) -> str:
    return percent(max((value for value in values if not math.isnan(value)), default=None))
