"""How fast networks are: latency against FLOPs, and how far the paired ratios scatter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import ArgumentError
from slimnet.report._figure import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    INK,
    MUTED,
    ORANGE,
    Words,
    check_picture,
    label_ends,
    log_scale,
    new_panels,
    save,
)
from slimnet.report.numbers import large

if TYPE_CHECKING:
    from slimnet.report._figure import Axes

COLOURS = {"onnxruntime": BLUE, "torch": ORANGE, "torch-compile": GREEN}
TITLE, CHART, LABEL, STRIP, AXIS = 0.45, 1.7, 0.33, 0.42, 0.75  # inches
BINS = 60
SHOWN, MOST = (0.02, 0.98), 100.0
"""The scatter is drawn between these quantiles of all ratios, and no further than so many per cent from the median."""
LOG = 8
"""Where the slowest takes so many times as long as the fastest, milliseconds are drawn on a logarithmic scale."""


@dataclass(frozen=True, eq=False)
class Point:
    """One variant of a comparison.

    Attributes:
        name: of the variant.
        runtime: what ran it.
        flops: multiply-adds for one image; None where unknown.
        ms, ms_interval: median of one run of the whole batch, milliseconds.
        speedup, interval: median of the ratios.
        ratios: (rounds,) baseline time ÷ this one's.
    """

    name: str
    runtime: str
    flops: int | None
    ms: float
    ms_interval: tuple[float, float]
    speedup: float
    interval: tuple[float, float]
    ratios: NDArray[np.float64]


def plot_latency(points: Sequence[Point], control: Point, how: str, path: Path | str) -> Words:
    """Draw latency against FLOPs (where they are known) above the scatter of the paired ratios of each variant.

    Args:
        points: the variants; the first is the baseline.
        control: the baseline timed a second time.
        how: conditions, for the title, e.g. ``"1 thread, batch 1"``.
        path: a .png, .svg or .pdf file.

    Returns:
        The picture in words.

    Raises:
        ArgumentError: if there is nothing to draw, or the ending is another.
        SlimnetError: if matplotlib is not installed.
    """
    path = check_picture(path)
    if not points:
        raise ArgumentError("there are no timings to draw.")
    counted = [point for point in points if point.flops]
    strips = [*points[1:], control]
    words = _words(points, control, how)
    scatter = STRIP * len(strips) + AXIS
    chart = max(CHART, LABEL * len(counted)) + AXIS
    figure, panels = new_panels(words.title, heights=[chart + TITLE, scatter] if counted else [scatter + TITLE])
    if counted:
        _against_flops(panels[0], counted)
    _scatter(panels[-1], strips, control)
    save(figure, path)
    return words


def _words(points: Sequence[Point], control: Point, how: str) -> Words:
    base, others = points[0], points[1:]
    said = [f"{p.name} {p.ms:.3g} ms, {p.speedup:.2f}× ({p.interval[0]:.2f}–{p.interval[1]:.2f})" for p in others]
    best = max(others, key=lambda p: p.speedup, default=None)
    found = f"{best.name} is {best.speedup:.2f}× as fast as {base.name}" if best else f"{base.name} takes {base.ms:.3g} ms"
    return Words(
        title=f"{found}: {how}",
        alt=f"Latency, {how}: {base.name} {base.ms:.3g} ms; {'; '.join(said) or 'alone'}. A/A control {control.speedup:.3f}.",
        aid="Points on the dashed line are as fast as their FLOPs promise; bars are 95 % intervals. Below, how far the ratios of "
        "single rounds lie from their median (what lies beyond the ends is drawn there); the A/A control is the baseline itself.",
    )


def _against_flops(axes: Axes, points: Sequence[Point]) -> None:
    base = points[0]
    most = max(point.flops or 0 for point in points)
    x = np.linspace(0.01, 1, 200) * most
    axes.plot(x, base.ms * x / (base.flops or 1), color=GREY, linewidth=1.0, linestyle=(0, (4, 3)))
    for point in points:
        colour = COLOURS.get(point.runtime, BLUE)
        low, high = point.ms_interval
        axes.errorbar(
            [point.flops or 0], [point.ms], yerr=[[max(0, point.ms - low)], [max(0, high - point.ms)]],
            fmt="o", markersize=4, color=colour, elinewidth=1.2, capsize=4,
        )  # fmt: skip
    axes.set_xlim(0, 1.08 * most)
    fastest, slowest = min(point.ms_interval[0] for point in points), max(point.ms_interval[1] for point in points)
    if slowest > LOG * fastest:
        log_scale(axes, (1, 2, 5))
        axes.set_ylim(fastest / 1.5, slowest * 1.5)
    else:
        axes.set_ylim(0, 1.12 * slowest)
    ends = [(point.ms, f"{point.name}\n{point.ms:.3g} ms", COLOURS.get(point.runtime, BLUE)) for point in points]
    label_ends(axes, ends, gap=LABEL / max(CHART, LABEL * len(points)))
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda value, _: large(value, 3))
    axes.set_xlabel("multiply-adds an image", fontsize=9, color=MUTED)
    axes.set_ylabel("ms a run", fontsize=9, color=MUTED)
    axes.grid(axis="y", color=GRID, linewidth=0.8)


def _scatter(axes: Axes, points: Sequence[Point], control: Point) -> None:
    away = [100 * (point.ratios / np.median(point.ratios) - 1) for point in points]
    low, high = np.quantile(np.concatenate(away), SHOWN)
    high = min(max(-low, high, 1.0), MOST)
    low = -high
    edges = np.linspace(low, high, BINS + 1)
    for row, (point, values) in enumerate(zip(points, away, strict=True)):
        heights, _ = np.histogram(np.clip(values, low, high), edges)
        colour = GREY if point is control else COLOURS.get(point.runtime, BLUE)
        axes.stairs(row + 0.42 - 0.84 * heights / heights.max(), edges, baseline=row + 0.42, fill=True, color=colour, alpha=0.75)
        name = "A/A control" if point is control else point.name
        spread = f"{point.speedup:.2f}× ({point.interval[0]:.2f}–{point.interval[1]:.2f})"
        axes.text(1.02, row, f"{name}\n{spread}", transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set_xlim(low, high)
    axes.set_ylim(len(points) - 0.45, -0.55)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=6)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g} %" if value else "0")
    axes.set_xlabel("ratio of a round, from its median", fontsize=9, color=MUTED)
