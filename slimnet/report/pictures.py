"""All pictures of a run, into a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slimnet.report._figure import Words
from slimnet.report.churn import churn, plot_churn
from slimnet.report.confusion import plot_class_scores, plot_confusion
from slimnet.report.contents import RunContents
from slimnet.report.curves import has, plot_accuracy, plot_loss, series
from slimnet.report.plan import plot_plan
from slimnet.report.schedule import plot_flops, plot_learning_rate, plot_schedule
from slimnet.report.selection import plot_selection
from slimnet.report.widths import plot_widths

SECTIONS = {
    "Classes": ("confusion.png", "classes.png"),
    "Training": ("accuracy.png", "loss.png"),
    "Schedule": ("schedule.png", "flops.png", "churn.png", "learning_rate.png"),
    "Filters": ("selection.png", "plan.png", "widths.png"),
}
"""Heading → the pictures below it."""

Draw = Callable[[Path], Words]


def draw_pictures(run: RunContents, folder: Path) -> dict[str, Words]:
    """Draw what there is.

    Returns:
        File name → the picture in words.

    Raises:
        SlimnetError: if matplotlib is not installed.
    """
    wanted = _curves(run) | _classes(run) | _filters(run)
    return {name: wanted[name](folder / name) for names in SECTIONS.values() for name in names if name in wanted}


def _curves(run: RunContents) -> dict[str, Draw]:
    epochs, best = run.epochs, run.best
    found: dict[str, Draw] = {
        "accuracy.png": lambda path: plot_accuracy(epochs, path, best=best),
        "loss.png": lambda path: plot_loss(epochs, path, best=best),
        "learning_rate.png": lambda path: plot_learning_rate(epochs, path),
    }
    if any(has(epochs, name) for name in ("rate", "zeta", "closed_share", "sparsity")):
        found["schedule.png"] = lambda path: plot_schedule(epochs, path)
    if len(set(series(epochs, "live_flops"))) > 1:
        dense = run.cost["flops"][0] if run.cost else None
        found["flops.png"] = lambda path: plot_flops(epochs, path, dense=dense)
    return found


def _classes(run: RunContents) -> dict[str, Draw]:
    scores = run.scores
    if scores is None:
        return {}
    return {
        "confusion.png": lambda path: plot_confusion(scores.confusion, scores.classes, path, tested_on=run.tested_on),
        "classes.png": lambda path: plot_class_scores(scores, path),
    }


def _filters(run: RunContents) -> dict[str, Draw]:
    found: dict[str, Draw] = {}
    if any(run.selection):
        found["selection.png"] = lambda path: plot_selection(run.selection, path)
    if any(value >= 0 for values in churn(run.selection) for value in values):
        found["churn.png"] = lambda path: plot_churn(run.selection, path)
    if (plan := run.plan) is not None and plan.get("layers"):
        found["plan.png"] = lambda path: plot_plan(plan, path)
    if run.groups:
        found["widths.png"] = lambda path: plot_widths(run.groups, path)
    return found
