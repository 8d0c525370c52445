"""How pruning went: the schedule, the learning rate, the FLOPs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from slimnet.errors import ArgumentError
from slimnet.report._figure import (
    BLUE,
    GREEN,
    GREY,
    MUTED,
    ORANGE,
    Words,
    by_epoch,
    check_picture,
    draw_line,
    label_ends,
    new_figure,
    percents,
    save,
)
from slimnet.report.curves import HEIGHT, Epochs, has, series
from slimnet.report.numbers import large, percent

SHARES = {  # name in metrics.jsonl → label, colour
    "rate": ("θ, rate", ORANGE),
    "zeta": ("ζ, scale", BLUE),
    "closed_share": ("closed", GREEN),
    "sparsity": ("sparsity", GREEN),
}


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
        draw_line(axes, values, SHARES[name][1])
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
        aid="θ is the share of filters that is selected, ζ the factor that scales these; a filter is closed once it is 0.",
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
    draw_line(axes, rates, BLUE)
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
    draw_line(axes, live, BLUE)
    by_epoch(axes, len(live))
    axes.set_ylim(0, 1.08 * whole)
    axes.yaxis.set_major_formatter(lambda value, _: large(value, 3))
    label_ends(axes, [(whole, "dense", MUTED), (live[-1], "live", BLUE)])
    save(figure, path)
    return words
