"""``slimnet prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._emit import emit_json, emit_table, number, percent
from slimnet_cli._options import as_json, existing, folder_out, force, network, together

selection = together(
    click.option("--criterion", default="l2", show_default=True, help="l1, l2, gm, norm-scale; cs and taylor need --data."),
    click.option("--rate", type=float, help="Share of filters to close."),
    click.option("--flops", type=float, help="Share of the FLOPs to keep, instead of a rate."),
    click.option("--ranking", type=click.Choice(["group", "global"]), default="group", show_default=True,
                 help="The same share of every group, or the lowest scores of all."),
    click.option("--couple", type=click.Choice(["stream", "none"]), default="stream", show_default=True,
                 help="Close residual streams as a whole, or each layer for itself."),
    click.option("--mask-norm/--no-mask-norm", default=True, show_default=True, help="Close the norms too."),
    click.option("--ignore", multiple=True, metavar="PATTERN", help="Leave groups whose name matches alone (repeat)."),
    click.option("--data", metavar="NAME", help="Data set for cs and taylor."),
    click.option("--data-dir", metavar="DIR", help="Where the data set lies."),
)  # fmt: skip


@click.command("prune")
@click.argument("checkpoint", type=existing)
@network
@selection
@folder_out
@force
@as_json
def command(checkpoint: Path, out: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Close filters of a trained network at once; `slimnet slim` then removes them.

    \b
    slimnet prune resnet56.pth --model resnet56 --rate 0.4 --out build/pruned
    slimnet slim build/pruned/model.safetensors --model resnet56 --out build/slim
    """
    if (options["rate"] is None) == (options["flops"] is None):
        raise click.UsageError("give either --rate or --flops.")
    from slimnet.checkpoints import prune_checkpoint

    report = prune_checkpoint(checkpoint, out, force=force, **options)
    if as_json:
        emit_json(report)
        return
    rows = [("group", "channels", "closed")]
    rows += [(g["name"], str(g["size"]), str(g["closed"])) for g in report["groups"]]
    emit_table(rows)
    before, after = report["flops"]["dense"], report["flops"]["realisable"]
    click.echo(f"FLOPs: {number(before)} dense, {number(after)} once cut ({percent(1 - after / before)} less)")
    click.echo(str(out / "model.safetensors"))
