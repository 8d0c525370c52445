"""Which code a network may be built by.

To build a network of the user's own is to import a module and call a function of it: to run code. So a factory is taken only
where the user names it: on the command line, in a call, in a recipe file that the user gives. A run, a bundle or any other file
that is merely read (``config.json`` has the name of a network) builds networks of slimnet and torchvision, and nothing else,
unless the user says so.
"""

from __future__ import annotations

from pathlib import Path

from slimnet.errors import ModelError

Trust = bool | str
"""True: any factory; ``"package.module:function"``: this one alone; False: none."""


def is_factory(name: str) -> bool:
    """Whether a network of that name is built by code of the user's own, ``package.module:function``."""
    return ":" in name


def check_trusted(name: str, where: Path, trust_code: Trust) -> None:
    """Refuse a network that is named by a file and is to be built by code that nobody trusts. Nothing is imported.

    Args:
        name: of the network.
        where: the file that names it.
        trust_code: True, or the one factory that may be run.

    Raises:
        ModelError: saying which factory is asked for, and how to allow it.
    """
    if is_factory(name) and trust_code is not True and trust_code != name:
        raise ModelError(
            f"{where} asks to run {name!r}, code that is no part of slimnet, to build its network. "
            "If you trust it, allow it with --trust-code (in Python trust_code=True)."
        )
