"""The only importer of matplotlib: figures of one style, written whole or not at all."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from slimnet._clean import clean
from slimnet.errors import ArgumentError, SlimnetError
from slimnet.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Axes",
    "Figure",
    "Words",
    "by_epoch",
    "check_picture",
    "draw_kept",
    "draw_line",
    "label_ends",
    "log_scale",
    "new_figure",
    "new_panels",
    "percents",
    "rgb",
    "save",
]

WIDTH = 4.5  # inches: legible on a phone, and side by side on a desk
DPI = 200
ROW_INCHES, MOST_ROWS = 0.24, 400  # of a bar; how many: a file may name 100,000
TITLE_LETTERS = 51  # a line of the title
ENDINGS = (".png", ".svg", ".pdf")
INK, MUTED, GRID, PALE = "#1b2430", "#566070", "#e4e8ed", "#d9dde3"
BLUE, ORANGE, GREEN, GREY, SAND = "#2f6db3", "#bf5a0a", "#2a7d4f", "#808a99", "#dc8a48"


@dataclass(frozen=True)
class Words:
    """A picture in words.

    Attributes:
        title: what is seen.
        alt: the picture for somebody who does not see it.
        aid: how to read it, in one sentence.
    """

    title: str
    alt: str
    aid: str


def check_picture(path: Path | str) -> Path:
    """The path of a picture to write, before any work is done for it.

    Raises:
        ArgumentError: if its ending is not one that can be drawn.
        SlimnetError: if matplotlib is not installed.
    """
    path = Path(path)
    if not _has_matplotlib():
        raise SlimnetError("drawing needs matplotlib: pip install 'slimnet[plots]'.")
    if path.suffix not in ENDINGS:
        raise ArgumentError(f"{path} must end in .png, .svg or .pdf.")
    return path


def _has_matplotlib() -> bool:
    try:
        return find_spec("matplotlib") is not None
    except ValueError:  # a module that is blocked in sys.modules
        return False


def new_figure(title: str, *, height: float) -> tuple[Figure, Axes]:
    """A figure of the common width with one axes; the title stands flush left.

    Args:
        title: what is seen.
        height: inches.
    """
    figure, (axes,) = new_panels(title, heights=[height])
    return figure, axes


def new_panels(title: str, *, heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A figure of the common width with axes one below the other; the title stands flush left.

    Args:
        title: what is seen.
        heights: inches of each, the title shared among them.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    figure.suptitle(textwrap.fill(title, TITLE_LETTERS), x=0.015, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    panels = list(figure.subplots(len(heights), squeeze=False, height_ratios=list(heights))[:, 0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        axes.tick_params(labelsize=9, colors=MUTED)
        axes.set_axisbelow(True)
    return figure, panels


def by_epoch(axes: Axes, epochs: int) -> None:
    """Make x the epoch, from 1."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch", fontsize=9, color=MUTED)
    axes.set_xlim(0.5, max(epochs, 2) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=8))
    axes.grid(axis="y", color=GRID, linewidth=0.8)


def percents(axes: Axes) -> None:
    """Show shares on y as percentages."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.6g} %")


def log_scale(axes: Axes, steps: Sequence[float] = (1.0,)) -> None:
    """Make y logarithmic, with plain numbers at these steps of each decade."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=list(steps)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_line(axes: Axes, values: Sequence[float], colour: str) -> None:
    """A line with a value an epoch; NaN is a gap."""
    axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=1.8, marker="o" if len(values) < 3 else "")


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]], *, gap: float = 0.085) -> None:
    """Name lines right of the axes, at their last values, moved apart where they would overlap.

    Args:
        axes: with its final limits.
        labels: last value, text, colour.
        gap: least distance, as a share of the height of the axes.
    """
    to_share = axes.transData + axes.transAxes.inverted()
    low = axes.get_xlim()[0]
    placed = sorted((float(to_share.transform((low, value))[1]), text, colour) for value, text, colour in labels)
    heights = [height for height, _, _ in placed]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    excess = max(0.0, heights[-1] - 1.0) if heights else 0.0
    for height, (_, text, colour) in zip(heights, placed, strict=True):
        axes.text(1.02, height - excess, text, transform=axes.transAxes, va="center", fontsize=9, color=colour)


def draw_kept(
    title: str, names: Sequence[str], whole: Sequence[float], kept: Sequence[float], beside: Sequence[tuple[str, str]], label: str
) -> Figure:
    """A figure of bars, one a row from above: pale the whole, blue what stays of it, words beside; the first 400 rows.

    Args:
        title: what is seen.
        names: of the rows.
        whole, kept: lengths.
        beside: words and their colour, a row.
        label: of the axis.
    """
    rows = range(min(len(names), MOST_ROWS))
    if len(rows) < len(names):
        label = f"{label}; the first {len(rows)} of {len(names):,}"
    figure, axes = new_figure(title, height=1.2 + ROW_INCHES * len(rows))
    axes.barh(rows, whole[: len(rows)], color=PALE)
    axes.barh(rows, kept[: len(rows)], color=BLUE, height=0.55)
    for row in rows:
        words, colour = beside[row]
        axes.text(whole[row], row, f" {words}", va="center", fontsize=8, color=colour)
    axes.set_yticks(rows, names[: len(rows)], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.2, y=0.01)
    axes.set_xlabel(label, fontsize=9, color=MUTED)
    axes.tick_params(axis="y", length=0)
    return figure


def rgb(colour: str) -> tuple[float, ...]:
    """``"#rrggbb"`` as red, green and blue in [0, 1]."""
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def save(figure: Figure, path: Path) -> None:
    """Write a figure, in the format that its ending says. Text is drawn as it is: no formulas, control characters escaped."""
    _as_it_is(figure)
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph ", category=UserWarning)  # a box stands for what the font lacks
        figure.savefig(drawn, format=path.suffix[1:], dpi=DPI)
    write_bytes(path, drawn.getvalue(), parents=True)


def _as_it_is(figure: Figure) -> None:
    """Names come from data; between two ``$`` matplotlib would read a formula. Those of a logarithmic axis are its own."""
    from matplotlib.text import Text
    from matplotlib.ticker import FuncFormatter

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        formatter = axis.get_major_formatter()
        if isinstance(formatter, FuncFormatter):  # given labels
            formatter.func = partial(_shown_tick, formatter.func)
            for label in axis.get_ticklabels():
                label.set_parse_math(False)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if not text.get_text().startswith("$\\mathdefault"):
            text.set_text(_shown(text.get_text()))
            text.set_parse_math(False)


def _shown_tick(label: Callable[[float, int | None], str], value: float, place: int | None = None) -> str:
    return _shown(label(value, place))


def _shown(text: str) -> str:
    return "\n".join(map(clean, text.split("\n")))
