"""Which code a network may be built by, and with what.

To build a network of the user's own is to import a module and call a function of it: to run code. So a factory is taken only
where the user names it: on the command line, in a call, in a recipe file that the user gives. A run, a bundle or any other file
that is merely read (``config.json`` has the name of a network) builds networks of slimnet, torchvision and timm, and nothing
else, unless the user says so.

The networks of the two libraries are built with random weights, and with plain arguments alone (``model_args``): none that makes
the library read a file or ask the network is handed on, whoever gives it. A file may not name a network of the Hugging Face hub
either; ``hf-hub:NAME`` is for the user to name, and runs and bundles hold what it stood for, ``timm:NAME`` and its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slimnet.errors import ModelError
from slimnet.fields import shown

Trust = bool | str
"""True: any factory; ``"package.module:function"``: this one alone; False: none."""

TIMM, TORCHVISION, HUB = "timm", "torchvision", "hf-hub"
READS = frozenset("pretrained checkpoint weights cache url file hub download".split())
"""Words in the names of arguments that make a library read a file, or ask the network."""
HARMLESS = frozenset({"init_weights"})
MOST, MOST_ENTRIES, DEEPEST = 16_384, 64, 4
"""Of arguments in a file: the largest number, the most entries of a list, and how deep lists may lie in lists."""


def source_of(name: str) -> tuple[str, str]:
    """Which library's network a name is of, ``timm``, ``torchvision`` or ``hf-hub``, and its name there; else ("", the name)."""
    source, colon, rest = name.partition(":")
    return (source, rest) if colon and source in (TIMM, TORCHVISION, HUB) else ("", name)


def is_factory(name: str) -> bool:
    """Whether a network of that name is built by code of the user's own, ``FILE.py:function`` or ``package.module:function``."""
    return ":" in name and not source_of(name)[0]


def check_trusted(name: str, where: Path, trust_code: Trust, model_args: Mapping[str, Any] | None = None) -> None:
    """Refuse a network that is named by a file and is to be built by code that nobody trusts. Nothing is imported.

    Args:
        name: of the network.
        where: the file that names it.
        trust_code: True, or the one factory that may be run.
        model_args: arguments for the network in that file.

    Raises:
        ModelError: saying which factory is asked for, and how to allow it; or which argument is none for a file.
    """
    if trust_code is True or trust_code == name:
        return
    if is_factory(name):
        raise ModelError(
            f"{where} asks to run {name!r}, code that is no part of slimnet, to build its network. "
            "If you trust it, allow it with --trust-code (in Python trust_code=True)."
        )
    if source_of(name)[0] == HUB:
        raise ModelError(f"{where} names {name!r}, a network of the Hugging Face hub: only you may, with --model.")
    check_arguments(f"{where}: {name}", model_args or {})
    for key, value in (model_args or {}).items():
        if not _is_plain(value):
            raise ModelError(f"{where} gives {name} the argument `{key}` {shown(value)}: plain small values alone are taken.")


def check_arguments(who: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments for a library's network by which it would read a file or ask the network.

    Args:
        who: what an error calls the network.
        arguments: names and values; names within values are looked at, too.

    Raises:
        ModelError: naming the argument.
    """
    for key, value in arguments.items():
        if key not in HARMLESS and READS & set(str(key).lower().split("_")):
            raise ModelError(
                f"{who} is built without `{key}`: by it, a file or the network would be read. Give weights as a file (--init)."
            )
        if isinstance(value, Mapping):
            check_arguments(who, value)


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, str):
        return len(value) <= MOST_ENTRIES and not set(value) & set("/\\:")
    if isinstance(value, int | float):
        return abs(value) <= MOST
    if isinstance(value, list | tuple | Mapping):
        parts = [*value.keys(), *value.values()] if isinstance(value, Mapping) else list(value)
        return depth < DEEPEST and len(parts) <= MOST_ENTRIES and all(_is_plain(part, depth + 1) for part in parts)
    return value is None
