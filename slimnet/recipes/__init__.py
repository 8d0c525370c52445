"""Recipes: settings that repeat something published or measured, as TOML files; read without torch, checked with it."""

from __future__ import annotations

from slimnet.recipes.find import load_recipe, read_recipe, recipe_names, recipe_text
from slimnet.recipes.recipe import Recipe

__all__ = ["Recipe", "load_recipe", "read_recipe", "recipe_names", "recipe_text"]
