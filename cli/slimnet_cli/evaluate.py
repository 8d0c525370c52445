"""``slimnet evaluate``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_json, emit_table, percent
from slimnet_cli._flags import Command, Named, data_switches, later, take_switches
from slimnet_cli._numbers import COUNT
from slimnet_cli._options import BundlePath, as_json, time_limit, trust_code
from slimnet_cli._quick import refuse_data_dir, refuse_missing, refuse_names


@click.command("evaluate", cls=Command)
@click.argument("what", type=BundlePath())
@click.option("--split", type=Named("SPLITS"), default="test", show_default=True, help="Of the data set.")
@click.option("--data", metavar="NAME", help="Data set (default: the one it was trained on).")
@click.option("--data-dir", metavar="DIR", help="Where the data set lies.")
@later("data-switches", partial(data_switches, without=("ferplus_votes", "drop_leaked")))
@click.option("--batch-size", type=COUNT, default=256, show_default=True, help="Images at a time.")
@click.option(
    "--views",
    type=Named("VIEWS"),
    default="one",
    show_default=True,
    help="Average the answers over views of each image.",
)
@time_limit
@trust_code
@as_json
def command(what: Path, split: str, as_json: bool, **options: Any) -> None:
    """Evaluate a run, the slim network of a bundle (or of one that slimnet ships, by its name), or an ONNX file on a split.

    \b
    slimnet evaluate runs/r56
    slimnet evaluate build/r56 --data-dir DATA
    slimnet evaluate model.onnx --data cifar10 --data-dir DATA --json
    slimnet evaluate expressions --data ferplus --without-contempt --data-dir DATA
    """
    refuse_missing(what, hint="give a run, a bundle, or an ONNX file")
    refuse_names(options)
    refuse_data_dir(options)
    from slimnet.commands import evaluate_any

    result, classes = evaluate_any(what, split=split, data_options=take_switches(options), **options)
    if as_json:
        emit_json({"split": result.split or split, "classes": list(classes), **result.as_dict()})
    else:
        _table(result, classes)


def _table(result: Any, classes: tuple[str, ...]) -> None:
    views = "" if result.views == "one" else f", mean over views ({result.views})"
    figures = f"accuracy {percent(result.accuracy)}, macro-F1 {percent(result.macro_f1)}, loss {result.loss:.4f}"
    echo(f"{figures} on {result.count} images{views}")
    echo(
        f"probabilities: calibration error (ECE) {percent(result.ece)}, NLL {result.nll:.4f}, temperature {result.temperature:g}"
    )
    head = ("true \\\\ found".replace("\\\\", "\\"), *classes, "accuracy", "F1")
    body = [
        (name, *(str(n) for n in row), percent(share), percent(f1))
        for name, row, share, f1 in zip(classes, result.confusion, result.per_class, result.f1, strict=True)
    ]
    emit_table([head, *body])
