"""What changed from epoch to epoch: loss, accuracy, pruning schedule, learning rate, FLOPs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimnet.errors import ArgumentError
from slimnet.report._figure import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MUTED,
    ORANGE,
    Axes,
    Words,
    by_epoch,
    check_picture,
    label_ends,
    log_scale,
    new_figure,
    percents,
    save,
)
from slimnet.report.numbers import large, percent

Epochs = Sequence[Mapping[str, Any]]
"""Lines of ``metrics.jsonl``, one an epoch."""

HEIGHT = 3.1
LOG_ABOVE = 30.0  # ratio of largest to smallest loss from which the axis is logarithmic
SHARES = {  # name in metrics.jsonl → label, colour
    "rate": ("θ, rate", ORANGE),
    "zeta": ("ζ, scale", BLUE),
    "closed_share": ("closed", GREEN),
    "sparsity": ("sparsity", GREEN),
}


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
        title=f"Validation loss: lowest in epoch {low + 1}, {val[low]:.3g}; {val[-1]:.3g} at the end",
        alt=f"Line chart over {len(val)} epochs. Training loss goes from {train[0]:.3g} to {train[-1]:.3g}, validation loss "
        f"from {val[0]:.3g} to {val[-1]:.3g}; the highest is {max(val):.3g}.",
        aid="Mean cross-entropy in nats, lower is better; peaks of the validation loss mark epochs in which filters were scaled.",
    )
    figure, axes = new_figure(words.title, height=HEIGHT)
    if min(train + val) > 0 and max(train + val) > LOG_ABOVE * min(train + val):
        log_scale(axes)
    _draw_both(axes, train, val, best)
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
    _draw_both(axes, train, val, best)
    save(figure, path)
    return words


def _both(epochs: Epochs, what: str) -> tuple[list[float], list[float]]:
    if not epochs:
        raise ArgumentError("there are no epochs to draw.")
    return series(epochs, f"train_{what}"), series(epochs, f"val_{what}")


def _draw_both(axes: Axes, train: list[float], val: list[float], best: int | None) -> None:
    _line(axes, train, GREY)
    _line(axes, val, BLUE)
    by_epoch(axes, len(val))
    if best is not None and best < len(val):
        axes.plot([best + 1], [val[best]], "o", color=BLUE, markersize=7, markeredgecolor="white", zorder=4)
        axes.axvline(best + 1, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        side = "right" if best + 1 > len(val) / 2 else "left"
        text = f" best: epoch {best + 1} "
        axes.text(best + 1, 0.02, text, transform=axes.get_xaxis_transform(), ha=side, va="bottom", fontsize=9, color=INK)
    label_ends(axes, [(train[-1], "train", MUTED), (val[-1], "validation", BLUE)])


def _line(axes: Axes, values: Sequence[float], colour: str) -> None:
    axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=1.8, marker="o" if len(values) < 3 else "")


def plot_schedule(epochs: Epochs, path: Path | str) -> Words:
    """Draw the pruning schedule: rate θ, scale ζ and the share of filters closed, as far as the epochs have them.

    Else as :func:`plot_loss`.
    """
    path = check_picture(path)
    found = {name: series(epochs, name) for name in SHARES if has(epochs, name)}
    if not found:
        raise ArgumentError("the epochs hold no pruning schedule to draw.")
    words = _schedule_words(found)
    figure, axes = new_figure(words.title, height=HEIGHT)
    for name, values in found.items():
        _line(axes, values, SHARES[name][1])
    by_epoch(axes, len(epochs))
    axes.set_ylim(-0.03, 1.03)
    percents(axes)
    ends = {name: next(value for value in reversed(values) if not math.isnan(value)) for name, values in found.items()}
    label_ends(axes, [(ends[name], SHARES[name][0], SHARES[name][1]) for name in found])
    save(figure, path)
    return words


def _schedule_words(found: Mapping[str, list[float]]) -> Words:
    said = [f"{SHARES[name][0]} from {percent(values[0])} to {percent(values[-1])}" for name, values in found.items()]
    closed = found.get("closed_share", found.get("sparsity", []))
    first = next((i for i, value in enumerate(closed) if value > 0), None)
    when = "nothing is closed yet" if first is None else f"filters are closed from epoch {first + 1} on"
    return Words(
        title=f"Pruning: {when}" + (f", {percent(closed[-1])} at the end" if first is not None else ""),
        alt=f"Line chart by epoch: {'; '.join(said)}.",
        aid="θ is the share of filters that is selected, ζ the factor by which these are scaled; a filter is closed once it is 0.",
    )


def plot_learning_rate(epochs: Epochs, path: Path | str) -> Words:
    """Draw the learning rate (``lr``) at the end of each epoch; else as :func:`plot_loss`."""
    path = check_picture(path)
    rates = series(epochs, "lr")
    if not rates:
        raise ArgumentError("there are no epochs to draw.")
    words = Words(
        title=f"Learning rate: at most {max(rates):.2g}, {rates[-1]:.2g} at the end",
        alt=f"Line chart by epoch: from {rates[0]:.3g} to {rates[-1]:.3g}, at most {max(rates):.3g}.",
        aid="The rate at the last step of each epoch.",
    )
    figure, axes = new_figure(words.title, height=HEIGHT)
    _line(axes, rates, BLUE)
    by_epoch(axes, len(rates))
    axes.set_ylim(0, None)
    save(figure, path)
    return words


def plot_flops(epochs: Epochs, path: Path | str, *, dense: float | None = None) -> Words:
    """Draw the multiply-adds of the channels that are not closed (``live_flops``); else as :func:`plot_loss`.

    Args:
        epochs: lines of ``metrics.jsonl``.
        path: a .png, .svg or .pdf file.
        dense: multiply-adds of the whole network.
    """
    path = check_picture(path)
    live = series(epochs, "live_flops")
    if not has(epochs, "live_flops"):
        raise ArgumentError("the epochs hold no FLOPs to draw.")
    whole = max(live) if dense is None else dense
    words = Words(
        title=f"FLOPs of live channels: {large(live[-1])}, {percent(live[-1] / whole)} of dense",
        alt=f"Line chart by epoch: from {large(live[0])} to {large(live[-1])} multiply-adds an image; dense: {large(whole)}.",
        aid="Multiply-adds for one image (one counts as one) of channels not closed yet: they fall when scales reach 0.",
    )
    figure, axes = new_figure(words.title, height=HEIGHT)
    axes.axhline(whole, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)))
    _line(axes, live, BLUE)
    by_epoch(axes, len(live))
    axes.set_ylim(0, 1.08 * whole)
    axes.yaxis.set_major_formatter(lambda value, _: large(value, 3))
    label_ends(axes, [(whole, "dense", MUTED), (live[-1], "live", BLUE)])
    save(figure, path)
    return words
