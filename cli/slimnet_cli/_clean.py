"""What came from data is shown, never obeyed: no text moves the cursor, colours a line, or forges one.

Everything that the commands print goes through :func:`echo`, which shows control characters as escapes. JSON is not touched:
it escapes what it must itself.
"""

from __future__ import annotations

from typing import Any

import click

from slimnet._clean import clean

__all__ = ["clean", "echo"]


def echo(text: Any = "", *, err: bool = False) -> None:
    """A line on stdout, or on stderr."""
    click.echo(clean(text), err=err)
