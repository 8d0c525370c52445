"""Pictures. Needs matplotlib: ``pip install slimnet[plots]``."""

from __future__ import annotations

from slimnet.report.widths import plot_widths

__all__ = ["plot_widths"]
