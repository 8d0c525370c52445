"""What came from data is shown, never obeyed: no text moves the cursor, colours a line, or forges one.

Everything that the commands print goes through :func:`echo`, which shows control characters as escapes. JSON is not touched:
it escapes what it must itself.
"""

from __future__ import annotations

import sys
from typing import Any

import click


def clean(text: Any) -> str:
    """See :func:`slimnet._clean.clean`: the library says the same of what it prints itself."""
    from slimnet._clean import clean

    return clean(text)


def shown_json(text: str) -> str:
    """The same JSON with escapes for characters that a terminal would obey: those stand inside strings alone."""
    units = (character.encode("utf-16-be") for character in text)
    return "".join(
        character
        if character == "\n" or clean(character) == character
        else "".join(f"\\u{unit[i : i + 2].hex()}" for i in range(0, len(unit), 2))
        for character, unit in zip(text, units, strict=True)
    )


def make_room() -> None:
    """Take the progress bar away, where one is shown, before anything else is written: it comes back by itself."""
    if "slimnet.terminal" in sys.modules:
        sys.modules["slimnet.terminal"].clear()


def echo(text: Any = "", *, err: bool = False) -> None:
    """A line on stdout, or on stderr."""
    make_room()
    click.echo(clean(text), err=err)
