"""How much of the selection of filters changes from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import ArgumentError
from slimnet.report._figure import BLUE, ORANGE, Words, by_epoch, check_picture, label_ends, new_figure, percents, save
from slimnet.report.curves import HEIGHT
from slimnet.report.numbers import percent

Selection = Sequence[Mapping[str, NDArray[np.bool_]]]
"""One mapping an epoch: group name → (size,) bool, true where a filter is selected."""


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


def plot_churn(selection: Selection, path: Path | str) -> Words:
    """Draw the shares of the selection that are new and that are released, by epoch; else as `plot_selection`."""
    path = check_picture(path)
    newly, released = churn(selection)
    if not any(not math.isnan(value) for value in newly + released):
        raise ArgumentError("there is no change of selection to draw.")
    words = Words(
        title=f"Selection churn: {when_settled(newly, released)}",
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


def when_settled(newly: Sequence[float], released: Sequence[float]) -> str:
    """From which epoch, counted from 1, nothing changes any more; in words."""
    moved = [i for i, pair in enumerate(zip(newly, released, strict=True)) if any(value > 0 for value in pair)]
    first = moved[-1] + 2 if moved else 1
    return f"unchanged from epoch {first} on" if first <= len(newly) else "the last epoch still changed it"


def _last(values: Sequence[float]) -> float:
    return next((value for value in reversed(values) if not math.isnan(value)), math.nan)


def _most(values: Sequence[float]) -> str:
    return percent(max((value for value in values if not math.isnan(value)), default=None))
