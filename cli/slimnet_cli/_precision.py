"""The precisions of a bundle: options and table of ``slimnet export``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_table, number, percent, say
from slimnet_cli._flags import later
from slimnet_cli._numbers import COUNT, SEED, Finite
from slimnet_cli._options import ParamType

if TYPE_CHECKING:
    from slimnet.fields import Setting
    from slimnet.settings import PrecisionSettings


class Names(ParamType):
    """Precisions, separated by commas."""

    name = "precisions"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Each once, in the order given."""
        if isinstance(value, tuple):
            return value
        from slimnet.names import PRECISIONS

        names = tuple(dict.fromkeys(name.strip() for name in str(value).split(",")))
        for name in names:
            if name not in PRECISIONS:
                self.fail(f"{name!r} is not one of {', '.join(PRECISIONS)}.", param, ctx)
        return names


def _flags() -> list[click.Option]:
    """From `slimnet.settings.PrecisionSettings`; on the command line a fall in accuracy is in percentage points."""
    from slimnet.fields import describe
    from slimnet.names import PLACEMENTS
    from slimnet.settings import PrecisionSettings

    def flag(name: str, row: Setting, **how: Any) -> click.Option:
        return click.Option([name], **{"help": row.words, "default": row.default, "show_default": True} | how)

    names, drop, calibration, seed, reduced, placing = describe(PrecisionSettings)
    points = {"default": drop.default * 100, "help": f"{drop.words[:-1]}, in percentage points."}
    return [
        flag("--precision", names, type=Names(), default="fp32", metavar=names.shape),
        flag("--max-drop", drop, type=Finite(0, 100), metavar="POINTS", **points),
        flag("--calibration", calibration, type=COUNT, metavar="N"),
        flag("--seed", seed, type=SEED),
        flag("--reduce-range/--full-range", reduced, show_default=False),
        flag("--placing", placing, type=click.Choice(PLACEMENTS)),
    ]


precision_options = later("precisions", _flags)


def take_precisions(options: dict[str, Any]) -> PrecisionSettings:
    """What the options ask for, taken out of ``options``."""
    from slimnet.settings import PrecisionSettings

    return PrecisionSettings(
        names=options.pop("precision"),
        max_drop=options.pop("max_drop") / 100,
        calibration=options.pop("calibration"),
        seed=options.pop("seed"),
        reduce_range=options.pop("reduce_range"),
        placing=options.pop("placing"),
    )


def show_precisions(choice: Any, entries: Mapping[str, Any]) -> None:
    """The precisions side by side; what was refused, and why, on stderr."""
    measured = [entry["accuracy"] for entry in entries.values() if entry.get("accuracy")]
    is_tested = all(accuracy["split"] == "test" for accuracy in measured)
    head = ("precision", "validation", *(["test"] if is_tested else []))
    head += ("agreement", "bytes", "median", "speed-up", "95 % interval", "kept")
    emit_table([head, *(_row(one, entries.get(one.name), is_tested=is_tested) for one in choice.found)])
    for one in choice.found:
        if one.name == "int8":
            left = _left(one.made["excluded"])
            bits = 7 if one.made["reduce_range"] else 8
            echo(f"int8: {one.made['method']} calibration, {bits}-bit weights, {left} left in fp32")
        if one.refused:
            say(f"warning: {one.name} is not written: {one.refused}")
    low, high = choice.latency.control.interval
    echo(f"one image, one thread, {choice.latency.rounds} rounds; A/A control {low:.3f}–{high:.3f}")
    for flag in choice.latency.flags.values():
        say(f"warning: {flag}")


def _left(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more or "no layer"


def _row(one: Any, entry: Mapping[str, Any] | None, *, is_tested: bool) -> tuple[str, ...]:
    tested = (entry or {}).get("accuracy") or {}
    low, high = one.interval
    return (
        one.name,
        percent(one.accuracy),
        *([percent(tested.get("value"))] if is_tested else []),
        percent(one.agreement),
        number(len(one.data)),
        f"{one.median_ms:.3f} ms",
        f"{one.speedup:.2f}",
        f"{low:.2f}–{high:.2f}",
        "yes" if one.kept else "no",
    )
