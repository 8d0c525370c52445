"""``--set NAME=VALUE``: any hyper-parameter of the method, or any setting of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

set_option = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any hyper-parameter of the method or setting of training; VALUE is JSON. Repeatable.",
)


def read_sets(pairs: Iterable[str], flag: str = "--set") -> dict[str, Any]:
    """``NAME=VALUE`` texts as a dictionary; a value that is not JSON is a text.

    Raises:
        click.UsageError: if there is no ``=``, or a name comes twice.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise click.UsageError(f"{flag} takes NAME=VALUE, got {pair!r}.")
        if name in values:
            raise click.UsageError(f"{flag} gives {name!r} twice.")
        values[name] = _value(text.strip())
    return values


def divide(values: Mapping[str, Any], method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values that are hyper-parameters of a method, and those that are settings of training.

    Raises:
        ArgumentError: for a name that is neither, naming the nearest known one.
    """
    from dataclasses import fields

    from slimnet.errors import ArgumentError, did_you_mean
    from slimnet.methods import get_method
    from slimnet.training import TrainConfig

    own = get_method(method).hyper_parameters()
    general = [field.name for field in fields(TrainConfig) if field.name != "method"]
    for name in values:
        if name not in own and name not in general:
            hint = did_you_mean(name, [*own, *general], f": {method} has {', '.join(own) or 'none'}.")
            raise ArgumentError(f"`{name}` is neither a hyper-parameter of {method} nor a setting of training{hint}")
    mine = {name: value for name, value in values.items() if name in own}
    rest = {name: value for name, value in values.items() if name not in own}
    return mine, {name: tuple(value) if isinstance(value, list) else value for name, value in rest.items()}


def method_of(run: Path) -> dict[str, Any]:
    """The method of a run, as a dictionary.

    Raises:
        FileFormatError: if there is no run.
    """
    from slimnet.training.run import read_config, read_record

    return read_config(run, read_record(run)).method.as_dict()


def _value(text: str) -> Any:
    from slimnet._json import decode
    from slimnet.errors import FileFormatError

    try:
        return decode(text, "the value")
    except FileFormatError:
        return text
