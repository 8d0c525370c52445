"""Tables of what the commands say themselves: recipes, and options."""

from __future__ import annotations

from functools import partial

import click
from _tables import table

from slimnet.recipes import read_recipe, recipe_names
from slimnet_cli import cli
from slimnet_cli.recipes import HEAD, row


def recipes_table() -> str:
    """The recipes that slimnet comes with, as ``slimnet recipes`` lists them."""
    rows = [row(read_recipe(name)) for name in recipe_names()]
    return table(HEAD, [(f"`{name}`", *rest) for name, *rest in rows])


def options_table(name: str) -> str:
    """The options of a command, in the words of its ``--help``."""
    rows = []
    for option in cli.commands[name].params:
        if isinstance(option, click.Option):
            default = f"`{option.default}`" if option.show_default else ""
            rows.append((f"`{', '.join(option.opts)}`", default, str(option.help).replace("|", "\\|")))
    return table(("option", "default", "what it is for"), rows)


TABLES = {"recipes": recipes_table, "predict-options": partial(options_table, "predict")}
