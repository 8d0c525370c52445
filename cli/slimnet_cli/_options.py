"""Options that several commands share."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slimnet_cli._flags import Decorator, all_of, settings
from slimnet_cli._numbers import CHANNELS, COUNT, PROBABILITY, SIDE, Finite

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
force = click.option("--force", is_flag=True, help="Overwrite an existing output folder.")
trust_code = click.option(
    "--trust-code",
    is_flag=True,
    help="Run the code (package.module:function, FILE.py:function) that a config.json names to build its network.",
)
unsure_below = click.option(
    "--unsure-below",
    type=PROBABILITY,
    metavar="P",
    help="Store in the bundle that an answer of a lower probability counts as unsure.",
)
folder_out = click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")


if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic from click 8.4 on


class Alignment(ParamType):
    """``none``, ``auto`` or a positive number."""

    name = "alignment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str | None:
        """``none`` is None."""
        if value in ("none", None):
            return None
        if value != "auto" and not str(value).isdigit():
            self.fail(f"{value!r} is neither none, auto, nor a number of channels.", param, ctx)
        return value if value == "auto" else int(COUNT.convert(value, param, ctx))


def detector_given(given: str, names: tuple[str, ...]) -> str | Path:
    """A detector's name, or the file that is given in its place.

    Raises:
        click.UsageError: if it is neither.
    """
    if given in names:
        return given
    if not Path(given).is_file():
        raise click.UsageError(f"--detector {given!r} is not one of {', '.join(names)}, and no file.")
    return Path(given)


class Several(ParamType):
    """Values with commas between them, as a tuple without repetitions."""

    def __init__(self, each: Any) -> None:
        self.each = each
        self.name = f"{each.name},…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """``"1,2"`` → ``(1, 2)``."""
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(self.each.convert(item.strip(), param, ctx) for item in str(value).split(",")))


class BundlePath(ParamType):
    """A folder, or the name of a bundle that slimnet ships."""

    name = "bundle"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """A run or a bundle that lies there goes before a name."""
        from slimnet.ready import ready_bundle, ready_names

        path = Path(value)
        is_name = str(value) in ready_names() and not (path / "config.json").is_file()
        return ready_bundle(path.name) if is_name else path


align = click.option(
    "--align",
    type=Alignment(),
    metavar="none|N|auto",
    help="Keep closed channels: up to a multiple of N a group, or where it runs faster here with them.  [default: none]",
)
existing = click.Path(path_type=Path)


def _within(context: click.Context, _: click.Parameter, seconds: float | None) -> None:
    """Until the command ends, networks may take so long."""
    if seconds is not None:
        from slimnet.measure import time_limit

        context.with_resource(time_limit(seconds))


time_limit = click.option(
    "--time-limit",
    type=Finite(min=0, min_open=True),
    metavar="SECONDS",
    expose_value=False,
    callback=_within,
    help="The most that a network may take to be opened, and for one run.  [default: 600]",
)
"""Takes effect by itself: the command is told nothing."""


def together(*options: Decorator) -> Decorator:
    """Several options as one decorator, in the order given."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


target_options = together(all_of("Budget", "target_"), settings("target"))


def take_target(options: dict[str, Any]) -> dict[str, float]:
    """What the target options ask for, taken out of ``options``: ``{"speedup": 3.0}``; empty where none is given.

    Raises:
        click.UsageError: if several are given.
    """
    from slimnet.settings import BUDGETS

    given = {name: options.pop(f"target_{name}") for name in BUDGETS if f"target_{name}" in options}
    asked = {name: value for name, value in given.items() if value is not None}
    if len(asked) > 1:
        raise click.UsageError(f"give one target, not {' and '.join('--target-' + name for name in asked)}.")
    return asked


def read_arguments(context: click.Context, option: click.Parameter, pairs: tuple[str, ...]) -> dict[str, Any]:
    """``NAME=VALUE`` texts as a dictionary; a value is what Python or JSON writes, or a text.

    Raises:
        click.BadParameter: if there is no ``=``, no name of an argument, or one comes twice.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"takes NAME=VALUE, got {pair!r}.", context, option)
        if name in values:
            raise click.BadParameter(f"gives {name!r} twice.", context, option)
        values[name] = _literal(text)
    return values


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "null": None}
    if text in words:
        return words[text]
    try:
        value = literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    from slimnet.fields import is_plain

    return value if is_plain(value) else text


part = click.option(
    "--part",
    metavar="NAME[+NAME…]",
    help="Submodules to take by themselves, where the whole network cannot be followed, e.g. backbone+head.",
)
SOURCES = "timm:NAME, torchvision:NAME, hf-hub:NAME, package.module:function, FILE.py:function"
model_arg = click.option(
    "--model-arg",
    "model_args",
    multiple=True,
    metavar="NAME=VALUE",
    callback=read_arguments,
    help="A further argument for what builds the network; VALUE is a Python literal or a text. Repeatable.",
)
network = together(
    click.option("--model", metavar="NAME", help=f"Name of a network, or {SOURCES} (default: as a run says)."),
    model_arg,
    click.option("--num-classes", type=CHANNELS, help="Outputs of the network (default: as in the file)."),
    click.option("--in-channels", type=CHANNELS, help="Channels of its input (default: as in the file)."),
    click.option("--image-size", type=SIDE, help="Side of its input (default: as a run or timm says, or 32)."),
    click.option("--weights-key", metavar="KEY", help="Which weights, where the file holds several, e.g. state_dict_ema."),
    trust_code,
)
