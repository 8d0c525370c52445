"""``slimnet inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._emit import emit_json, emit_table, percent
from slimnet_cli._options import as_json, existing, network, part
from slimnet_cli._quick import refuse_missing, refuse_names


@click.command("inspect")
@click.argument("checkpoint", type=existing)
@network
@part
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw kept width against original (.png, .svg, .pdf)."
)
@as_json
def command(checkpoint: Path, plot: Path | None, as_json: bool, **options: Any) -> None:
    """Show the channel groups of a network: what is zero, what can go, and if not, why.

    \b
    slimnet inspect fpgm_resnet56.pth --model resnet56
    slimnet inspect model.onnx
    """
    refuse_names(options)
    refuse_missing(checkpoint)
    from slimnet.commands import inspect_checkpoint

    report = inspect_checkpoint(checkpoint, **options)
    if plot is not None:
        from slimnet.report import plot_widths

        plot_widths(report["groups"], plot)
    if as_json:
        emit_json(report)
        return
    rows = [("group", "channels", "closed", "partly", "can go", "FLOPs", "why the rest stays")]
    for group in report["groups"]:
        why = "; ".join(f"{count}: {reason}" for reason, count in group["reasons"].items())
        removable = group["size"] - group["kept"]
        rows.append(
            (group["name"], *map(str, (group["size"], group["closed"], group["partly"], removable)),
             percent(group["flops_share"]), why)
        )  # fmt: skip
    emit_table(rows)
