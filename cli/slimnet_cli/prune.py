"""``slimnet prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_json, emit_table, number, percent
from slimnet_cli._flags import Command, Named, data_switches, later, section, settings, take_switches
from slimnet_cli._numbers import COUNT
from slimnet_cli._options import as_json, existing, folder_out, force, network, part, take_target, target_options, together
from slimnet_cli._quick import refuse_data_dir, refuse_missing, refuse_names, refuse_out, refuse_runtimes
from slimnet_cli._settings import read_sets, set_option
from slimnet_cli.train import show_run


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
    click.option("--data", metavar="NAME", help="Training data, for cs, taylor, --allocate-by loss and --finetune."),
    click.option("--data-dir", metavar="DIR", help="Where the data set lies."),
    later("data-switches", data_switches),
)  # fmt: skip


target_runtime = click.option(
    "--runtime",
    type=Named("RUN_BY"),
    help="Runtime that the target is for: what layers cost is measured there.  [default: onnxruntime]",
)


OWN = ("data", "data_dir", "image_size", "epochs", "teacher")  # settings of training that prune has flags of its own for
finetuning = together(
    click.option(
        "--finetune",
        type=COUNT,
        metavar="N",
        help="Cut, and train what is left for N epochs: --out is then a run. What follows is for it alone; with adamw the "
        "default of --lr is 0.001, and below 5 epochs that of --warmup-epochs is 0.",
    ),
    click.option("--teacher", metavar="FILE|RUN|none", help="Whom fine-tuning learns from.  [default: the dense network]"),
    settings("training", without=OWN, finetuning=True),
    settings("data", without=OWN),
    set_option,
    click.option("--quiet", is_flag=True, help="No progress on stderr."),
)


@click.command("prune", cls=Command)
@click.argument("checkpoint", type=existing)
@section("Network", network, part)
@section("What is closed", selection, target_options, target_runtime)
@section("Fine-tuning", finetuning)
@section(
    "Output",
    click.option(
        "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the plan for a target (.png, .svg, .pdf)."
    ),
    folder_out,
    force,
    as_json,
)
def command(
    checkpoint: Path, out: Path, plot: Path | None, force: bool, finetune: int | None, quiet: bool, as_json: bool, **options: Any
) -> None:
    """Close filters of a trained network at once; `slimnet slim` then removes them. Or, with --finetune, cut and train on.

    Of an ONNX file, it writes the slim file at once.

    \b
    slimnet prune resnet56.pth --model resnet56 --target-speedup 2 --finetune 20 --data cifar10 --data-dir DATA --out runs/p
    slimnet export runs/p --out build/p
    slimnet prune resnet56.pth --model resnet56 --rate 0.4 --out build/pruned
    slimnet prune resnet18.pth --model resnet18 --image-size 224 --target-speedup 3 --out build/fast
    slimnet slim build/pruned/model.safetensors --model resnet56 --out build/slim
    slimnet prune model.onnx --target-speedup 2 --out build/small
    slimnet prune resnet56.pth --model resnet56 --target-speedup 2 --runtime openvino --out build/fast
    """
    target = take_target(options)
    if [options["rate"], options["flops"], target or None].count(None) != 2:
        raise click.UsageError("give one of --rate, --flops and --target-….")
    if plot is not None:
        if not target:
            raise click.UsageError("--plot draws the plan for a target: give one.")
        from slimnet.report import check_picture

        check_picture(plot)
    given_runtime = options.pop("runtime")
    if given_runtime is not None and (not target or finetune is not None):
        raise click.UsageError("--runtime is for a --target-… of prune alone: leave it out otherwise.")
    refuse_runtimes([given_runtime] if given_runtime else [])
    given = {name: options.pop(f"target_{name}") for name in ("threads", "batch")}
    given |= {name: options.pop(name) for name in ("shut_branches", "allocate_by")}
    given = {name: value for name, value in given.items() if value is not None} | ({"target": target} if target else {})
    asked, switched = _take_training(options), take_switches(options)
    if finetune is not None and plot is not None:
        raise click.UsageError("--plot draws the plan of prune alone: leave it or --finetune out.")
    if finetune is not None and options["part"] is not None:
        raise click.UsageError("--finetune trains whole networks, by the loss of their answers: leave it or --part out.")
    if finetune is None and (asked or quiet):
        flag = next(iter(asked), "quiet").replace("_", "-")
        raise click.UsageError(f"--{flag} is for fine-tuning: give --finetune, or leave it out.")
    refuse_names(options)
    refuse_missing(checkpoint)
    refuse_data_dir(options | asked)
    refuse_out(out, force=force)
    if switched:
        options["data_options"] = asked.pop("data_options", {}) | switched
    if finetune is not None:
        del options["part"]
        _finetune(checkpoint, out, options | given | asked, epochs=finetune, force=force, quiet=quiet, as_json=as_json)
        return
    options |= given | ({"runtime": given_runtime} if given_runtime else {})
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
    echo(str(out / ("model.onnx" if "surgery" in report else "model.safetensors")))


def _take_training(options: dict[str, Any]) -> dict[str, Any]:
    """The settings of fine-tuning that were given, taken out of ``options``."""
    from slimnet.fields import describe
    from slimnet.settings import TrainSettings

    names = [row.name for row in describe(TrainSettings) if row.group in ("training", "data") and row.name not in OWN]
    given = {name: options.pop(name) for name in (*names, "teacher")}
    asked = {name: value for name, value in given.items() if value is not None and value != ()}
    if "augment" in asked:
        asked["augment"] = read_sets(asked["augment"], flag="--augment")
    return asked | read_sets(options.pop("sets"))


def _finetune(
    checkpoint: Path, out: Path, options: dict[str, Any], *, epochs: int, force: bool, quiet: bool, as_json: bool
) -> None:
    if options["image_size"] is None:
        del options["image_size"]  # as the run says, or as is customary for the data
    if options.get("teacher") == "none":
        options["teacher"] = None
    from slimnet.commands import prune_and_finetune

    run = prune_and_finetune(checkpoint, out, epochs=epochs, force=force, progress=False if quiet else None, **options)
    if as_json:
        emit_json({"run": str(run.path), **run.result})
    else:
        show_run(run)
