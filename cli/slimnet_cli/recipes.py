"""``slimnet recipes``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slimnet_cli._clean import clean, echo
from slimnet_cli._emit import emit_json, emit_table
from slimnet_cli._options import as_json

if TYPE_CHECKING:
    from slimnet.recipes import Recipe

HEAD = ("recipe", "model", "data", "method", "epochs", "expected test accuracy")


@click.command("recipes")
@click.argument("name", required=False)
@as_json
def command(name: str | None, as_json: bool) -> None:
    """List the recipes of "slimnet train --recipe", or show one whole.

    NAME is a recipe, or a TOML file of your own, which is checked. What is shown is TOML again, to change and to train with.

    \b
    slimnet recipes
    slimnet recipes fsdp-resnet56-cifar10
    slimnet recipes fsdp-resnet56-cifar10 > mine.toml
    """
    from slimnet.recipes import load_recipe, read_recipe, recipe_names, recipe_text

    if name is None:
        recipes = [read_recipe(known) for known in recipe_names()]
        if as_json:
            emit_json({"recipes": [_record(recipe) for recipe in recipes]})
        else:
            emit_table(_flush_left([HEAD, *map(row, recipes)]))
        return
    recipe = read_recipe(name) if name in recipe_names() else load_recipe(name)
    if as_json:
        emit_json(_record(recipe))
    else:
        echo(f"# {command_line(recipe)}")
        click.echo("\n" + _shown(recipe_text(name).strip()))


def _shown(text: str) -> str:
    """The text of a recipe: as it is for a file, and on a terminal with what it would obey escaped."""
    if not sys.stdout.isatty():
        return text
    return "\n".join(clean(line.expandtabs()) for line in text.replace("\r\n", "\n").split("\n"))


def command_line(recipe: Recipe) -> str:
    """The command that trains by a recipe, with a word in capitals for what the user has to fill in."""
    folder = [] if recipe.train.get("data", "digits") == "digits" else ["--data-dir", "DIR"]
    needs = [word for need in recipe.needs for word in (f"--{need.replace('_', '-')}", "FILE")]
    stem = Path(recipe.name).name.removesuffix(".toml")
    return shlex.join(["slimnet", "train", "--recipe", recipe.name, *folder, *needs, "--out", f"runs/{stem}"])


def _record(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.as_dict(), "command": command_line(recipe)}


def row(recipe: Recipe) -> tuple[str, ...]:
    """A line of the list."""
    train = recipe.train
    chosen = (train.get("model"), train.get("data"), _label(recipe.method), train.get("epochs"))
    return (recipe.name, *("-" if value is None else str(value) for value in chosen), recipe.expected)


def _label(method: Mapping[str, Any]) -> str:
    """The method's name; of stages, the names of all."""
    stages = [stage for stage, _ in method.get("stages", ())]
    return " + ".join(stage if isinstance(stage, str) else stage["name"] for stage in stages) or str(method["name"])


def _flush_left(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The cells filled up with blanks, but for the numbers of the last column but one."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = [i for i in range(len(widths)) if i != HEAD.index("epochs")]
    return [tuple(cell.ljust(widths[i]) if i in left else cell for i, cell in enumerate(row)) for row in rows]
