"""Kept width against original, a bar a channel group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimnet._files import atomic_path
from slimnet.errors import ArgumentError, SlimnetError

ROW_INCHES = 0.24


def plot_widths(groups: Sequence[Mapping[str, Any]], path: Path | str) -> None:
    """Draw the channel groups of a network: original width, what stays, and what of that is closed.

    Args:
        groups: rows of :func:`slimnet.checkpoints.inspect_checkpoint`: name, size, kept, closed.
        path: a .png, .svg or .pdf file.

    Raises:
        ArgumentError: if the ending is another, or there are no groups.
        SlimnetError: if matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ArgumentError(f"{path} must end in .png, .svg or .pdf.")
    if not groups:
        raise ArgumentError("there are no channel groups to draw.")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SlimnetError("drawing needs matplotlib: pip install 'slimnet[plots]'.") from None
    names = [str(group["name"]) for group in groups]
    sizes, kept = [int(group["size"]) for group in groups], [int(group["kept"]) for group in groups]
    figure = Figure(figsize=(8, 1.4 + ROW_INCHES * len(groups)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, sizes, color="#d9dde3", label="original")
    axes.barh(names, kept, color="#2f6db3", height=0.55, label="kept")
    for row, (size, left) in enumerate(zip(sizes, kept, strict=True)):
        axes.text(size, row, f" {left} of {size}", va="center", fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.set_xlabel("channels")
    axes.set_title(f"Channel groups: {sum(kept)} of {sum(sizes)} channels stay", fontsize=10)
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=130)
