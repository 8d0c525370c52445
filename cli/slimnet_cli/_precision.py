"""The precisions of a bundle: options and table of ``slimnet export``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_table, number, percent, say
from slimnet_cli._numbers import COUNT, SEED, Finite
from slimnet_cli._options import ParamType, together

if TYPE_CHECKING:
    from slimnet.commands import PrecisionSettings


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


precision_options = together(
    click.option(
        "--precision",
        "precision",
        type=Names(),
        default="fp32",
        show_default=True,
        metavar="fp32,int8,fp16",
        help="Precisions of the slim network; fp32 is always there, another one only where it pays.",
    ),
    click.option(
        "--max-drop",
        type=Finite(0, 100),
        default=0.5,
        show_default=True,
        metavar="POINTS",
        help="Most validation accuracy that a precision may lose, in percentage points.",
    ),
    click.option(
        "--calibration",
        type=COUNT,
        default=256,
        show_default=True,
        metavar="N",
        help="Training images to calibrate int8 with.",
    ),
    click.option("--seed", type=SEED, default=0, show_default=True, help="Of the choice of these images."),
    click.option(
        "--reduce-range/--full-range",
        default=None,
        help="int8 weights of 7 or 8 bits.  [default: 7 where this processor lacks VNNI]",
    ),
)


def take_precisions(options: dict[str, Any]) -> PrecisionSettings:
    """What the options ask for, taken out of ``options``."""
    from slimnet.commands import PrecisionSettings

    return PrecisionSettings(
        names=options.pop("precision"),
        max_drop=options.pop("max_drop") / 100,
        calibration=options.pop("calibration"),
        seed=options.pop("seed"),
        reduce_range=options.pop("reduce_range"),
    )


def show_precisions(choice: Any, entries: Mapping[str, Any]) -> None:
    """The precisions side by side; what was refused, and why, on stderr."""
    head = ("precision", "validation", "test", "agreement", "bytes", "median", "speed-up", "95 % interval", "kept")
    emit_table([head, *(_row(one, entries.get(one.name)) for one in choice.found)])
    for one in choice.found:
        if one.name == "int8":
            left = ", ".join(one.made["excluded"]) or "no layer"
            bits = 7 if one.made["reduce_range"] else 8
            echo(f"int8: {one.made['method']} calibration, {bits}-bit weights, {left} left in fp32")
        if one.refused:
            say(f"warning: {one.name} is not written: {one.refused}")
    low, high = choice.latency.control.interval
    echo(f"one image, one thread, {choice.latency.rounds} rounds; A/A control {low:.3f}–{high:.3f}")
    for flag in choice.latency.flags.values():
        say(f"warning: {flag}")


def _row(one: Any, entry: Mapping[str, Any] | None) -> tuple[str, ...]:
    tested = (entry or {}).get("accuracy") or {}
    low, high = one.interval
    return (
        one.name,
        percent(one.accuracy),
        percent(tested.get("value")),
        percent(one.agreement),
        number(len(one.data)),
        f"{one.median_ms:.3f} ms",
        f"{one.speedup:.2f}",
        f"{low:.2f}–{high:.2f}",
        "yes" if one.kept else "no",
    )
