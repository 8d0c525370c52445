"""``slimnet train``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from slimnet_cli._emit import emit_json, emit_table, percent
from slimnet_cli._options import as_json, folder_out, force, take_target, target_options, together, trust_code
from slimnet_cli._recipe import recipe_option, with_recipe
from slimnet_cli._settings import divide, method_of, read_sets, set_option

DATA_OPTIONS = ("drop_leaked", "skip_bad_rows")
METHODS = "asfp, asrfp, dense, dsd, fpgm, fsdp, network-slimming, one-shot, sfp, srfp, stages, structured-dsd"
METHOD_FIELDS = (
    *("rate", "rate_norm", "rate_cs", "rate_gm", "sparsity", "tau", "attenuation"),
    *("couple", "faithful", "finetune_epochs"),
)

method_options = together(
    click.option("--method", metavar="NAME", help=f"What is pruned, and how: {METHODS}.  [default: fsdp]"),
    click.option("--rate", type=float, help="Share of filters that the method closes (not fsdp: see the next two)."),
    click.option("--rate-cs", type=float, help="Share of filters closed by class separability."),
    click.option("--rate-gm", type=float, help="Share of filters closed by the geometric median."),
    click.option("--rate-norm", type=float, help="The part of fpgm's rate that goes by smallest norm."),
    click.option("--sparsity", type=float, help="Share that a sparse phase of dsd or structured-dsd masks."),
    click.option("--tau", type=float, help="¾ of the rate is reached after 1/τ of the epochs."),
    click.option("--attenuation", type=float, help="The factor a of the filter scale ζ."),
    click.option("--couple", metavar="stream|none", help="Close residual streams as a whole, or each layer for itself."),
    click.option("--faithful", is_flag=True, default=None, help="The published recipe, weak points included."),
    click.option("--finetune-epochs", type=int, help="Epochs at the end with the selection frozen and closed."),
)

data_options = together(
    click.option("--data", metavar="NAME", help="digits (default, embedded), cifar10, cifar100, fer2013, ferplus, or folder."),
    click.option("--data-dir", metavar="DIR", help="Where the data set lies."),
    click.option("--download", is_flag=True, default=None, help="Download the data set if it is missing."),
    click.option("--image-size", type=int, help="Side to which images are resized."),
    click.option("--val-fraction", type=float, help="Share of the training data held out for selection."),
    click.option("--train-fraction", type=float, help="Share of the rest that is trained on, for quick trials.  [default: 1]"),
    click.option("--normalise", metavar="dataset|imagenet", help="Mean and deviation taken off the images."),
    click.option("--augment", metavar="NAME=VALUE", multiple=True, help="Change the augmentation: crop_padding, flip, rotate …"),
    click.option("--drop-leaked", is_flag=True, default=None, help="Leave out training images that also stand in val or test."),
    click.option("--skip-bad-rows", is_flag=True, default=None, help="Leave malformed rows of a CSV out, and count them."),
    click.option("--num-workers", type=int, help="Loader processes for data that streams from disk."),
)

optimisation = together(
    click.option("--epochs", type=int, help="Passes over the training data.  [default: 30]"),
    click.option("--batch-size", type=int, help="Images a step, over all processes.  [default: 128]"),
    click.option("--optimizer", metavar="sgd|adamw", help="SGD is with Nesterov momentum.  [default: sgd]"),
    click.option("--lr", type=float, help="Learning rate after warm-up.  [default: 0.1]"),
    click.option("--momentum", type=float, help="Momentum of SGD.  [default: 0.9]"),
    click.option("--weight-decay", type=float, help="[default: 5e-4]"),
    click.option("--schedule", metavar="step|cosine|constant", help="Of the learning rate.  [default: step]"),
    click.option("--warmup-epochs", type=int, help="[default: 1]"),
    click.option("--label-smoothing", type=float, help="[default: 0]"),
    click.option("--class-weights", type=float, metavar="POWER", help="1 makes classes count alike in the loss, 0 images."),
    click.option("--soft-labels", is_flag=True, default=None, help="Learn the shares of people's votes (ferplus)."),
    click.option("--teacher", metavar="RUN_OR_WEIGHTS", help="Learn from a run, or from weights of this very network."),
    click.option("--distill-weight", type=float, help="Share of the teacher in the loss.  [default: 0.5]"),
    click.option("--distill-temperature", type=float, help="By which logits are divided.  [default: 4]"),
    click.option("--ema", type=float, metavar="DECAY", help="Keep the running average of the weights, e.g. 0.999."),
    click.option("--mixup", type=float, metavar="ALPHA", help="Mix images in pairs."),
    click.option("--cutmix", type=float, metavar="ALPHA", help="Paste rectangles of one image into another."),
    click.option(
        "--cut", metavar="settled|never", help="Train the cut network on once the selection is final.  [default: settled]"
    ),
    click.option("--precision", metavar="auto|fp32|bf16", help="auto takes what is faster on the device."),
    click.option("--compile", is_flag=True, default=None, help="Use torch.compile."),
    click.option("--device", help="auto, cpu, cuda …"),
    click.option("--seed", type=int, help="[default: 0]"),
)


@click.command("train")
@recipe_option
@click.option("--model", metavar="NAME", help="Name of a network, or package.module:function.")
@click.option("--init", metavar="FILE", help="Initial weights: .safetensors, or a state dict (.pth, .th, .pt).")
@method_options
@target_options
@data_options
@optimisation
@set_option
@folder_out
@click.option("--resume", is_flag=True, help="Go on with the run in the output folder.")
@trust_code
@force
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@as_json
def command(out: Path, resume: bool, force: bool, quiet: bool, as_json: bool, method: str | None, **options: Any) -> None:
    """Train a network with soft filter masks, and leave a run directory.

    \b
    slimnet train --model resnet20 --out runs/digits
    slimnet train --model resnet56 --data cifar10 --data-dir DATA --init FILE --epochs 15 --out runs/r56
    slimnet train --model resnet20 --method fpgm --rate 0.4 --rate-norm 0.1 --set mask_norm=false --out runs/fpgm
    slimnet train --recipe fsdp-resnet20-cifar10 --data-dir DATA --epochs 40 --rate-gm 0.3 --out runs/r20
    slimnet train --model resnet18 --data folder --data-dir DIR --target-speedup 3 --out runs/r18
    slimnet train --model resnet56 --data cifar10 --data-dir DATA --target-speedup 3 --shut-branches --out runs/fast
    slimnet train --resume --out runs/r56
    torchrun --nproc-per-node 2 -m slimnet_cli train …
    """
    sets = read_sets(options.pop("sets"))
    augment = read_sets(options.pop("augment"), flag="--augment")
    recipe: str | None = options.pop("recipe")
    settings = {name: value for name, value in options.items() if value is not None}
    if augment:
        settings["augment"] = augment
    if target := take_target(settings):
        settings["target"] = target
    given = {name: settings.pop(name) for name in METHOD_FIELDS if name in settings}
    if switched := {name: settings.pop(name) for name in DATA_OPTIONS if name in settings}:
        settings["data_options"] = switched
    if not (resume or recipe or "model" in settings | sets):
        raise click.UsageError("Missing option '--model'.")
    if resume and recipe:
        raise click.UsageError("--resume goes on with a run by its own settings: leave --recipe out.")
    if resume and force:
        raise click.UsageError("--resume goes on with a run, --force starts it again: give one of them.")
    from slimnet.training import train

    default: Mapping[str, Any] = {"name": "fsdp"}
    if recipe:
        settings, default = with_recipe(recipe, settings, sets)
    settings |= _chosen(method, given, sets, out, resume=resume, default=default)
    run = train(out=out, resume=resume, force=force, progress=False if quiet else None, **settings)
    if as_json:
        emit_json({"run": str(run.path), **run.result})
        return
    result = run.result
    emit_table(
        [
            ("run", "best epoch", "val accuracy", "test accuracy", "closed filters"),
            (
                str(run.path),
                f"{run.best_epoch + 1} of {run.config.epochs}",
                percent(result["val_accuracy"]),
                percent(result["test_accuracy"]),
                percent(run.metrics[-1].get("closed_share")),
            ),
        ]
    )


def _chosen(
    name: str | None, given: dict[str, Any], sets: dict[str, Any], out: Path, *, resume: bool, default: Mapping[str, Any]
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
    return general | {"method": Method.from_dict(base | given | own)}
