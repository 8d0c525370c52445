"""Recipes by name, and from the user's own files."""

from __future__ import annotations

import os
import tomllib
from importlib.resources import files
from pathlib import Path

from slimnet.errors import ArgumentError, FileFormatError, unknown
from slimnet.recipes.recipe import Recipe

SUFFIX = ".toml"


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that slimnet comes with."""
    return tuple(sorted(entry.name.removesuffix(SUFFIX) for entry in files(__package__).iterdir() if entry.name.endswith(SUFFIX)))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe, and check every setting in it.

    Args:
        name_or_path: one of :func:`recipe_names`, or a file: a name that ends in ``.toml`` or has a folder in it.

    Raises:
        ArgumentError: if there is no recipe of that name; the message names the nearest one.
        FileFormatError: if the file is missing, is not TOML, or holds an unknown key or a value out of its range.

    Example:
        >>> load_recipe("fsdp-resnet56-cifar10").settings["epochs"]
        200
    """
    recipe = read_recipe(name_or_path)
    _ = recipe.settings
    return recipe


def read_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe without a look at its settings, and so without importing torch (see :func:`load_recipe`).

    Raises:
        ArgumentError: as :func:`load_recipe`.
        FileFormatError: if the file is missing, is not TOML, or lacks what a recipe has.
    """
    name, text = os.fspath(name_or_path), recipe_text(name_or_path)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also numbers with more digits than Python reads
        raise FileFormatError(f"{name} is not readable TOML: {error}.") from None
    return Recipe.from_dict(name, values)


def recipe_text(name_or_path: str | Path) -> str:
    """The TOML of a recipe as it is written.

    Raises:
        ArgumentError: as :func:`load_recipe`.
        FileFormatError: if the file is missing or is not text.
    """
    name = os.fspath(name_or_path)
    if not _is_path(name):
        _check_known(name)
        return (files(__package__) / f"{name}{SUFFIX}").read_text(encoding="utf-8")
    try:
        return Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileFormatError(f"{name} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{name} is not readable TOML: {error}.") from None


def _is_path(name: str) -> bool:
    return name.endswith(SUFFIX) or "/" in name or os.sep in name


def _check_known(name: str) -> None:
    known = recipe_names()
    if name not in known:
        raise ArgumentError(unknown("unknown recipe", name, known, f"; or a file that ends in {SUFFIX}"))
