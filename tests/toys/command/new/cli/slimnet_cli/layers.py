"""``slimnet layers``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_json
from slimnet_cli._options import as_json, existing, network


@click.command("layers")
@click.argument("checkpoint", type=existing)
@network
@as_json
def command(checkpoint: Path, as_json: bool, **options: Any) -> None:
    """Count the layers of a network.

    \b
    slimnet layers resnet56.th --model resnet56
    """
    from slimnet.commands import count_layers

    layers = count_layers(checkpoint, **options)
    if as_json:
        emit_json({"layers": layers})
    else:
        echo(str(layers))
