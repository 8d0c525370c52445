"""Results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from slimnet_cli._clean import clean, echo, shown_json


def say(message: str) -> None:
    """A line of progress, on stderr."""
    echo(message, err=True)


def emit_json(value: Mapping[str, Any]) -> None:
    """A result as indented JSON, on stdout."""
    from slimnet._json import encode
    from slimnet.errors import MeasureError

    try:
        text = encode(value, indent=2)
    except ValueError as error:
        raise MeasureError(f"the result holds a number that JSON does not have, NaN or an infinity ({error}).") from None
    click.echo(shown_json(text))


def emit_table(rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: the first row is the head, the first column is flush left.

    On a terminal it is fitted to its width; elsewhere every row is one line.
    """
    from slimnet.terminal import is_live, print_table

    if is_live(sys.stdout):
        print_table(rows, sys.stdout)
        return
    rows = [[clean(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())
        if number == 0:
            click.echo("  ".join("-" * width for width in widths))


def number(value: float | None, digits: int = 2) -> str:
    """A large number with a unit: 40551040 → "40.55 M"; "-" for None."""
    if value is None:
        return "-"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.{digits}f} {unit}"
    return f"{value:g}"


def percent(value: float | None) -> str:
    """A share as a percentage: 0.9173 → "91.73 %"; "-" for None."""
    return "-" if value is None else f"{100 * value:.2f} %"
