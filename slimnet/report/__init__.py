"""Pictures of a run, and the page that holds them. Needs matplotlib: ``pip install slimnet[plots]``."""

from __future__ import annotations

from slimnet.report._figure import Words, check_picture
from slimnet.report.churn import churn, plot_churn
from slimnet.report.confusion import ClassScores, plot_class_scores, plot_confusion
from slimnet.report.contents import RunContents
from slimnet.report.curves import plot_accuracy, plot_loss
from slimnet.report.page import FILES, write_pages
from slimnet.report.plan import plot_plan
from slimnet.report.schedule import plot_flops, plot_learning_rate, plot_schedule
from slimnet.report.selection import plot_selection
from slimnet.report.widths import plot_widths

__all__ = [
    "FILES",
    "ClassScores",
    "RunContents",
    "Words",
    "check_picture",
    "churn",
    "plot_accuracy",
    "plot_churn",
    "plot_class_scores",
    "plot_confusion",
    "plot_flops",
    "plot_learning_rate",
    "plot_loss",
    "plot_plan",
    "plot_schedule",
    "plot_selection",
    "plot_widths",
    "write_pages",
]
