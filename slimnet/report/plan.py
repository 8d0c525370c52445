"""What is planned for a target: layers, widths, shut branches, predicted times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimnet.errors import ArgumentError
from slimnet.report._figure import INK, ORANGE, Words, check_picture, draw_kept, save


def plot_plan(plan: Mapping[str, Any], path: Path | str) -> Words:
    """Draw a plan, a bar a layer: its part of the predicted time before and after, and its widths.

    Args:
        plan: ``layers`` and ``predicted`` as :meth:`slimnet.allocation.Allocation.as_dict` gives them.
        path: a .png, .svg or .pdf file.

    Returns:
        The picture in words.

    Raises:
        ArgumentError: if the ending is another, or there are no layers.
        SlimnetError: if matplotlib is not installed.
    """
    path = check_picture(path)
    layers: Sequence[Mapping[str, Any]] = plan.get("layers", ())
    if not layers:
        raise ArgumentError("there is no plan to draw: no layers.")
    words = _words(layers, plan.get("predicted", {}))
    names = [str(layer["name"]) for layer in layers]
    before, after = ([float(layer[name]) for layer in layers] for name in ("dense_ms", "ms"))
    beside = [(_change(layer), INK if layer["reads_kept"] else ORANGE) for layer in layers]
    save(draw_kept(words.title, names, before, after, beside, "predicted milliseconds (dark: what stays)"), path)
    return words


def _change(layer: Mapping[str, Any]) -> str:
    """``16 → 32``, channels read and made; with what stays where that is less."""
    if not layer["reads_kept"]:
        return "shut"
    sides = ((layer["reads"], layer["reads_kept"]), (layer["makes"], layer["makes_kept"]))
    return " → ".join(str(now) if now == kept else f"{kept} of {now}" for now, kept in sides)


def _words(layers: Sequence[Mapping[str, Any]], predicted: Mapping[str, Any]) -> Words:
    shut = sum(not layer["reads_kept"] for layer in layers)
    narrower = sum(bool(layer["reads_kept"]) and layer["makes_kept"] < layer["makes"] for layer in layers)
    times = ""
    if isinstance(predicted.get("ms"), int | float) and isinstance(predicted.get("dense_ms"), int | float):
        times = f": {predicted['ms']:.3g} of {predicted['dense_ms']:.3g} ms"
    moved = f", answers moved by {predicted['loss']:.3g}" if isinstance(predicted.get("loss"), int | float) else ""
    return Words(
        title=f"Plan{times}, {shut} layers shut, {narrower} narrower{moved}",
        alt=f"Bar chart of {len(layers)} layers, predicted time before and after: {shut} are in shut branches, {narrower} make "
        "fewer channels.",
        aid="Grey is a layer's part of the predicted time, blue what stays of it; beside it the channels read and made.",
    )
