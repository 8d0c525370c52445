"""``slimnet prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_json, emit_table, number, percent
from slimnet_cli._flags import Command, Named
from slimnet_cli._options import as_json, existing, folder_out, force, network, take_target, target_options, together


class Criterion(Named):
    """The names are shown; an unknown one is refused by the library."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it was given."""
        return str(value)


selection = together(
    click.option("--criterion", type=Criterion("CRITERIA"), default="l2", show_default=True,
                 help="What filters are scored by; cs and taylor need --data."),
    click.option("--rate", type=float, help="Share of filters to close."),
    click.option("--flops", type=float, help="Share of the FLOPs to keep, instead of a rate."),
    click.option("--ranking", type=Named("RANKINGS"), default="group", show_default=True,
                 help="The same share of every group, or the lowest scores of all."),
    click.option("--couple", type=Named("COUPLES"), default="stream", show_default=True,
                 help="Close residual streams as a whole, or each layer for itself."),
    click.option("--mask-norm/--no-mask-norm", default=True, show_default=True, help="Close the norms too."),
    click.option("--ignore", multiple=True, metavar="PATTERN", help="Leave groups whose name matches alone (repeat)."),
    click.option("--data", metavar="NAME", help="Training data, for cs, taylor and --allocate-by loss."),
    click.option("--data-dir", metavar="DIR", help="Where the data set lies."),
)  # fmt: skip


@click.command("prune", cls=Command)
@click.argument("checkpoint", type=existing)
@network
@selection
@target_options
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the plan for a target (.png, .svg, .pdf).")
@folder_out
@force
@as_json
def command(checkpoint: Path, out: Path, plot: Path | None, force: bool, as_json: bool, **options: Any) -> None:
    """Close filters of a trained network at once; `slimnet slim` then removes them.

    \b
    slimnet prune resnet56.pth --model resnet56 --rate 0.4 --out build/pruned
    slimnet prune resnet18.pth --model resnet18 --image-size 224 --target-speedup 3 --out build/fast
    slimnet slim build/pruned/model.safetensors --model resnet56 --out build/slim
    """
    target = take_target(options)
    if [options["rate"], options["flops"], target or None].count(None) != 2:
        raise click.UsageError("give one of --rate, --flops and --target-….")
    if plot is not None:
        if not target:
            raise click.UsageError("--plot draws the plan for a target: give one.")
        from slimnet.report import check_picture

        check_picture(plot)
    given = {name: options.pop(f"target_{name}") for name in ("threads", "batch")}
    given |= {name: options.pop(name) for name in ("shut_branches", "allocate_by")}
    options |= {name: value for name, value in given.items() if value is not None} | ({"target": target} if target else {})
    from slimnet.commands import prune_checkpoint

    report = prune_checkpoint(checkpoint, out, force=force, **options)
    if plot is not None:
        from slimnet.report import plot_plan

        plot_plan(report["allocation"], plot)
    if as_json:
        emit_json(report)
        return
    rows = [("group", "channels", "closed")]
    rows += [(g["name"], str(g["size"]), str(g["closed"])) for g in report["groups"]]
    emit_table(rows)
    before, after = report["flops"]["dense"], report["flops"]["realisable"]
    echo(f"FLOPs: {number(before)} dense, {number(after)} once cut ({percent(1 - after / before)} less)")
    if "allocation" in report:
        predicted = report["allocation"]["predicted"]
        echo(f"predicted: {predicted['ms']:.3g} ms of {predicted['dense_ms']:.3g} ms, {predicted['speedup']:.2f}×")
    echo(str(out / "model.safetensors"))
