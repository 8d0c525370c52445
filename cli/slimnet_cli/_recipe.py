"""``--recipe NAME``: the settings that flags and ``--set`` then override."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

MERGED = ("data_options", "augment")

recipe_option = click.option(
    "--recipe", metavar="NAME", help='Settings that flags and --set override: see "slimnet recipes", or a TOML file of your own.'
)


def with_recipe(name: str, flags: Mapping[str, Any], sets: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The settings of a recipe with those of the flags over them, and its method as a dictionary.

    Raises:
        ArgumentError: if there is no such recipe.
        FileFormatError: if it is a file that is missing or malformed.
        click.UsageError: if the recipe needs a setting that only the user can give.
    """
    from slimnet.recipes import load_recipe

    recipe = load_recipe(name)
    for need in recipe.needs:
        if need not in flags.keys() | sets.keys() | recipe.train.keys():
            raise click.UsageError(f"Missing option '--{need.replace('_', '-')}': the recipe {name} needs it.")
    settings = recipe.settings
    del settings["method"]
    merged = {key: {**settings[key], **flags[key]} for key in MERGED if key in settings and key in flags}
    return {**settings, **flags, **merged}, recipe.method
