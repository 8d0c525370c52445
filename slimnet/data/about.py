"""The module that loads a data set, and what it says of the data."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from slimnet.names import LOADERS


@dataclass(frozen=True)
class About:
    """What a model card has to say of a data set.

    Attributes:
        terms: under which its authors give it; None where that is not known, as of a folder: they are its owner's.
        limits: what a user of a network that was trained on it must know, a sentence each.
    """

    terms: str | None = None
    limits: tuple[str, ...] = ()


def loader_of(name: str) -> ModuleType:
    """The module of a data set, imported when it is asked for.

    It has a function ``load(request) -> Source``; by name, its own options with their defaults in ``OPTIONS``, where it has any,
    and in ``ABOUT`` what is said of the data.
    """
    return importlib.import_module(f"slimnet.data.sets.{LOADERS[name]}")


def about(name: str, options: Mapping[str, bool] | None = None) -> About:
    """What the loader says of a data set, taken with these options of its own; nothing of a name that there is not."""
    if name == "fer2013" and (options or {}).get("ferplus_votes"):
        name = "ferplus"  # whose terms count, too
    known: dict[str, About] = getattr(loader_of(name), "ABOUT", {}) if name in LOADERS else {}
    return known.get(name, About())
