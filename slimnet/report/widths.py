"""Kept width against original, a bar a channel group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimnet.errors import ArgumentError
from slimnet.report._figure import INK, Words, check_picture, draw_kept, save


def plot_widths(groups: Sequence[Mapping[str, Any]], path: Path | str) -> Words:
    """Draw the channel groups of a network: original width, and what stays.

    Args:
        groups: rows of :func:`slimnet.commands.inspect_checkpoint`: name, size, kept.
        path: a .png, .svg or .pdf file.

    Returns:
        The picture in words.

    Raises:
        ArgumentError: if the ending is another, or there are no groups.
        SlimnetError: if matplotlib is not installed.
    """
    path = check_picture(path)
    if not groups:
        raise ArgumentError("there are no channel groups to draw.")
    names = [str(group["name"]) for group in groups]
    sizes, kept = [int(group["size"]) for group in groups], [int(group["kept"]) for group in groups]
    words = _words(names, sizes, kept)
    beside = [(f"{left} of {size}", INK) for size, left in zip(sizes, kept, strict=True)]
    save(draw_kept(words.title, names, sizes, kept, beside, "channels (dark: kept)"), path)
    return words


def _words(names: Sequence[str], sizes: Sequence[int], kept: Sequence[int]) -> Words:
    shares = [left / max(size, 1) for left, size in zip(kept, sizes, strict=True)]
    least, most = shares.index(min(shares)), shares.index(max(shares))
    return Words(
        title=f"Channel groups: {sum(kept)} of {sum(sizes)} channels stay",
        alt=f"Bar chart of {len(names)} channel groups, original and kept width. Narrowest: {names[least]}, {kept[least]} of "
        f"{sizes[least]} channels; widest: {names[most]}, {kept[most]} of {sizes[most]}.",
        aid="Grey is the original width of a channel group, blue what stays once the closed channels are cut out.",
    )
