"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
force = click.option("--force", is_flag=True, help="Overwrite an existing output folder.")
folder_out = click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
align = click.option("--align", type=click.IntRange(min=1), help="Keep closed channels so that each group has a multiple of N.")
existing = click.Path(path_type=Path)


def together(*options: Decorator) -> Decorator:
    """Several options as one decorator, in the order given."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


network = together(
    click.option("--model", required=True, metavar="NAME", help="Name of a network, or package.module:function."),
    click.option("--num-classes", type=click.IntRange(min=1), help="Outputs of the network (default: as in the file)."),
    click.option("--in-channels", type=click.IntRange(min=1), help="Channels of its input (default: as in the file)."),
    click.option("--image-size", type=click.IntRange(min=1), default=32, show_default=True, help="Side of its input."),
)
