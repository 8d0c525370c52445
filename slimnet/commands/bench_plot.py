"""A comparison as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slimnet.commands.bench import BenchReport
    from slimnet.measure import Variant
    from slimnet.report.latency import Point


def check_plot(path: Path | str) -> None:
    """Refuse what cannot be drawn, before anything is measured.

    Raises:
        ArgumentError: if the ending is not one that can be drawn.
        SlimnetError: if matplotlib is not installed.
    """
    from slimnet.report._figure import check_picture

    check_picture(path)


def plot_bench(report: BenchReport, path: Path | str) -> None:
    """Draw latency against FLOPs, and the scatter of the paired ratios.

    Args:
        report: a comparison.
        path: a .png, .svg or .pdf file.

    Raises:
        ArgumentError: if the ending is another.
        SlimnetError: if matplotlib is not installed.
    """
    from slimnet.report.latency import plot_latency

    latency = report.latency
    points = [_point(v, row["flops"]) for v, row in zip(latency.variants, report.rows, strict=True)]
    base = next(i for i, v in enumerate(latency.variants) if v.name == latency.baseline)
    threads = f"{latency.threads} thread{'s' if latency.threads > 1 else ''}"
    how = f"{threads}, batch {latency.batch}" + ("" if latency.provider == "cpu" else f", {latency.provider}")
    ordered = [points[base], *points[:base], *points[base + 1 :]]
    plot_latency(ordered, _point(latency.control, None), how, path)


def _point(variant: Variant, flops: int | None) -> Point:
    from slimnet.report.latency import Point

    return Point(
        variant.name,
        variant.runtime,
        flops,
        variant.median_ms,
        variant.median_interval or (variant.median_ms, variant.median_ms),
        variant.speedup,
        variant.interval,
        variant.ratios,
    )
