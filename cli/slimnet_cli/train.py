"""``slimnet train``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from slimnet_cli._emit import emit_json, emit_table, percent, say
from slimnet_cli._flags import Command, all_of, data_switches, later, section, settings, take_switches
from slimnet_cli._options import as_json, folder_out, force, model_arg, take_target, target_options, trust_code
from slimnet_cli._quick import refuse_data_dir, refuse_missing, refuse_names, refuse_out, refuse_resume
from slimnet_cli._recipe import recipe_option, with_recipe
from slimnet_cli._settings import divide, method_of, read_sets, set_option


@click.command("train", cls=Command)
@section(
    "Run",
    folder_out,
    click.option("--resume", is_flag=True, help="Go on with the run in the output folder."),
    recipe_option,
    set_option,
    trust_code,
    force,
)
@section("Network", settings("network"), model_arg)
@section("Method", settings("method"), all_of("MethodSettings"))
@section("Target", target_options)
@section("Data", settings("data"), later("data-switches", data_switches))
@section("Training", settings("training"))
@section("What is printed", click.option("--quiet", is_flag=True, help="No progress on stderr."), as_json)
def command(out: Path, resume: bool, force: bool, quiet: bool, as_json: bool, method: str | None, **options: Any) -> None:
    """Train a network with soft filter masks, and leave a run directory.

    \b
    slimnet train --model resnet20 --out runs/digits
    slimnet train --model resnet56 --data cifar10 --data-dir DATA --init FILE --epochs 15 --out runs/r56
    slimnet train --model resnet20 --method fpgm --rate 0.4 --rate-norm 0.1 --set mask_norm=false --out runs/fpgm
    slimnet train --recipe fsdp-resnet20-cifar10 --data-dir DATA --epochs 40 --rate-gm 0.3 --out runs/r20
    slimnet train --model resnet18 --data folder --data-dir DIR --target-speedup 3 --out runs/r18
    slimnet train --model resnet56 --data cifar10 --data-dir DATA --target-speedup 3 --shut-branches --out runs/fast
    slimnet train --init build/slim --epochs 10 --lr 0.02 --out runs/on
    slimnet train --resume --out runs/r56
    slimnet train --resume --epochs 60 --out runs/r56
    torchrun --nproc-per-node 2 -m slimnet_cli train …
    """
    sets = read_sets(options.pop("sets"))
    augment = read_sets(options.pop("augment"), flag="--augment")
    recipe: str | None = options.pop("recipe")
    from slimnet.fields import describe
    from slimnet.names import METHOD, NO_MODEL
    from slimnet.settings import MethodSettings

    chosen = {name: value for name, value in options.items() if value not in (None, (), {})}
    if augment:
        chosen["augment"] = augment
    if target := take_target(chosen):
        chosen["target"] = target
    given = {row.name: chosen.pop(row.name) for row in describe(MethodSettings) if row.name in chosen}
    if switched := take_switches(chosen):
        chosen["data_options"] = switched
    init = (chosen | sets).get("init")
    begins_slim = init is not None and (Path(str(init)) / "plan.json").is_file()
    if not (resume or recipe or begins_slim or "model" in chosen | sets):
        raise click.UsageError(f"Missing option '--model': {NO_MODEL}")
    if resume and recipe:
        raise click.UsageError("--resume goes on with a run by its own settings: leave --recipe out.")
    if resume and force:
        raise click.UsageError("--resume goes on with a run, --force starts it again: give one of them.")
    _refuse(chosen | sets | ({"method": method} if method else {}), out, recipe=recipe, resume=resume, force=force)
    from slimnet.training import train

    default: Mapping[str, Any] = {"name": "dense" if begins_slim else METHOD}
    if recipe:
        chosen, default = with_recipe(recipe, chosen, sets)
    chosen |= _chosen(method, given, sets, out, resume=resume, quiet=quiet, default=default)
    run = train(out=out, resume=resume, force=force, progress=False if quiet else None, **chosen)
    if as_json:
        emit_json({"run": str(run.path), **run.result})
        return
    show_run(run)


def show_run(run: Any) -> None:
    """The result of a run as a table."""
    emit_table(
        [
            ("run", "best epoch", "val accuracy", "test accuracy", "closed filters"),
            (
                str(run.path),
                f"{run.best_epoch + 1} of {run.config.epochs}",
                percent(run.result["val_accuracy"]),
                percent(run.result["test_accuracy"]),
                percent(run.metrics[-1].get("closed_share")),
            ),
        ]
    )


def _refuse(given: Mapping[str, Any], out: Path, *, recipe: str | None, resume: bool, force: bool) -> None:
    """What can be refused at once."""
    refuse_names(given)
    if recipe is not None:
        from slimnet.recipes import read_recipe

        read_recipe(recipe)
    if resume:
        refuse_resume(out)
        return
    refuse_missing(given.get("init"))
    refuse_missing(given.get("teacher"), hint="the teacher is a finished run, or a file of weights")
    refuse_data_dir(given)
    refuse_out(out, force=force)


def _chosen(
    name: str | None,
    given: dict[str, Any],
    sets: dict[str, Any],
    out: Path,
    *,
    resume: bool,
    quiet: bool,
    default: Mapping[str, Any],
) -> dict[str, Any]:
    """The method that the flags describe, and the settings among ``--set``; a resumed run brings its own method."""
    from slimnet.methods import Method

    if resume and name is None and not (given or sets):
        return {}
    base = {"name": name} if name else dict(default)
    if resume and name is None:
        base = method_of(out)
    own, general = divide(sets, base["name"])
    if resume and name is None and not (given or own):
        return general
    method = Method.from_dict(base | given | own)
    if not quiet:
        _say_overridden(method, given | own)
    return general | {"method": method}


def _say_overridden(method: Any, asked: Mapping[str, Any]) -> None:
    """Say which hyper-parameters the published recipe sets to something else than what was asked for."""
    from slimnet.settings import does_nothing

    for name, value in method.published.items() if getattr(method, "faithful", False) else ():
        if name in asked and asked[name] != value:
            say(does_nothing(name, f"`faithful` sets it to {json.dumps(value)}; --set faithful=false lets it stand"))
