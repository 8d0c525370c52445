"""``slimnet evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._emit import emit_json, emit_table, percent
from slimnet_cli._options import as_json, existing


@click.command("evaluate")
@click.argument("what", type=existing)
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True, help="Of the data set.")
@click.option("--data", metavar="NAME", help="Data set (default: the one it was trained on).")
@click.option("--data-dir", metavar="DIR", help="Where the data set lies.")
@click.option("--batch-size", type=click.IntRange(min=1), default=256, show_default=True, help="Images at a time.")
@as_json
def command(what: Path, split: str, data: str | None, data_dir: str | None, batch_size: int, as_json: bool) -> None:
    """Evaluate a run, the slim network of a bundle, or an ONNX file on a split of a data set.

    \b
    slimnet evaluate runs/r56
    slimnet evaluate build/r56 --data-dir DATA
    slimnet evaluate model.onnx --data cifar10 --data-dir DATA --json
    """
    from slimnet.pipeline import evaluate_any

    result, classes = evaluate_any(what, split=split, data=data, data_dir=data_dir, batch_size=batch_size)
    if as_json:
        emit_json({"split": split, "classes": list(classes), **result.as_dict()})
    else:
        _table(result, classes)


def _table(result: Any, classes: tuple[str, ...]) -> None:
    click.echo(f"accuracy {percent(result.accuracy)} on {result.count} images, loss {result.loss:.4f}")
    head = ("true \\\\ found".replace("\\\\", "\\"), *classes, "accuracy")
    body = [
        (name, *(str(n) for n in row), percent(share))
        for name, row, share in zip(classes, result.confusion, result.per_class, strict=True)
    ]
    emit_table([head, *body])
