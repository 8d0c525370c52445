"""Loss and accuracy from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.errors import ArgumentError
from slimnet.report._figure import (
    BLUE,
    GREY,
    INK,
    MUTED,
    Words,
    by_epoch,
    check_picture,
    draw_line,
    label_ends,
    log_scale,
    new_figure,
    percents,
    save,
)
from slimnet.report.numbers import percent

if TYPE_CHECKING:
    from slimnet.report._figure import Axes

Epochs = Sequence[Mapping[str, Any]]
"""Lines of ``metrics.jsonl``, one an epoch."""

HEIGHT = 2.9
LOG_ABOVE = 30.0  # ratio of largest to smallest loss from which the axis is logarithmic


def series(epochs: Epochs, name: str) -> list[float]:
    """One number an epoch; NaN where an epoch has none."""
    values = [epoch.get(name) for epoch in epochs]
    return [math.nan if value is None else float(value) for value in values]


def has(epochs: Epochs, name: str) -> bool:
    """Whether any epoch has that number."""
    return any(epoch.get(name) is not None for epoch in epochs)


def plot_loss(epochs: Epochs, path: Path | str, *, best: int | None = None) -> Words:
    """Draw training and validation loss.

    Args:
        epochs: lines of ``metrics.jsonl``; ``train_loss``, ``val_loss``, in nats.
        path: a .png, .svg or .pdf file.
        best: the epoch, from 0, whose weights are the result.

    Returns:
        The picture in words.

    Raises:
        ArgumentError: if there are no epochs, or the ending is another.
        SlimnetError: if matplotlib is not installed.
    """
    path = check_picture(path)
    train, val = _both(epochs, "loss")
    low = min(range(len(val)), key=val.__getitem__)
    words = Words(
        title=f"Validation loss: last {val[-1]:.3g}, lowest {val[low]:.3g} in epoch {low + 1}",
        alt=f"Line chart over {len(val)} epochs. Training loss goes from {train[0]:.3g} to {train[-1]:.3g}, validation loss "
        f"from {val[0]:.3g} to {val[-1]:.3g}; the highest is {max(val):.3g}.",
        aid="Validation: mean cross-entropy in nats; training: what was minimised, teacher included; lower is better"
        + ("; it may rise while selected filters fade." if has(epochs, "rate") else "."),
    )
    figure, axes = new_figure(words.title, height=HEIGHT)
    if min(train + val) > 0 and max(train + val) > LOG_ABOVE * min(train + val):
        log_scale(axes)
    _draw_both(axes, train, val, best, is_high_late=False)
    save(figure, path)
    return words


def plot_accuracy(epochs: Epochs, path: Path | str, *, best: int | None = None) -> Words:
    """Draw training and validation accuracy: ``train_accuracy``, ``val_accuracy``; else as :func:`plot_loss`."""
    path = check_picture(path)
    train, val = _both(epochs, "accuracy")
    top = max(range(len(val)), key=val.__getitem__)
    title = f"Validation accuracy: {percent(val[top])} in epoch {top + 1}, the highest so far"
    if best is not None and best < len(val):
        title = f"Validation accuracy: {percent(val[best])} in epoch {best + 1}, whose weights are the result"
    words = Words(
        title=title,
        alt=f"Line chart over {len(val)} epochs. Training accuracy ends at {percent(train[-1])}, validation accuracy goes from "
        f"{percent(val[0])} to {percent(val[-1])}; its lowest is {percent(min(val))}.",
        aid="The best epoch is chosen by validation accuracy, among the epochs whose masked filters are exactly zero.",
    )
    figure, axes = new_figure(words.title, height=HEIGHT)
    percents(axes)
    _draw_both(axes, train, val, best, is_high_late=True)
    save(figure, path)
    return words


def _both(epochs: Epochs, what: str) -> tuple[list[float], list[float]]:
    if not epochs:
        raise ArgumentError("there are no epochs to draw.")
    return series(epochs, f"train_{what}"), series(epochs, f"val_{what}")


def _draw_both(axes: Axes, train: list[float], val: list[float], best: int | None, *, is_high_late: bool) -> None:
    draw_line(axes, train, GREY)
    draw_line(axes, val, BLUE)
    by_epoch(axes, len(val))
    if best is not None and best < len(val):
        axes.plot([best + 1], [val[best]], "o", color=BLUE, markersize=7, markeredgecolor="white", zorder=4)
        axes.axvline(best + 1, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        side = "right" if best + 1 > len(val) / 2 else "left"
        height, va = (0.03, "bottom") if is_high_late else (0.97, "top")  # where the lines are not
        text = f" best: epoch {best + 1} "
        axes.text(best + 1, height, text, transform=axes.get_xaxis_transform(), ha=side, va=va, fontsize=9, color=INK)
    label_ends(axes, [(train[-1], "train", MUTED), (val[-1], "validation", BLUE)])
