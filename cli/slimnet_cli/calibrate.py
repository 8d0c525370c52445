"""``slimnet calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_json, emit_table, percent
from slimnet_cli._options import BundlePath, as_json, force, time_limit, unsure_below
from slimnet_cli._quick import refuse_data_dir, refuse_missing_bundle, refuse_names, refuse_out


@click.command("calibrate")
@click.argument("bundle", type=BundlePath())
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write (default: the bundle is replaced).")
@click.option("--data", metavar="NAME", help="Data set (default: the one it was trained on).")
@click.option("--data-dir", metavar="DIR", help="Where the data set lies.")
@unsure_below
@force
@time_limit
@as_json
def command(bundle: Path, out: Path | None, as_json: bool, **options: Any) -> None:
    """Make the probabilities of BUNDLE ones that can be believed: one temperature a network, fitted on the validation split.

    `slimnet export` does so by itself; this is for bundles of before, for other data, or to store --unsure-below. No answer
    changes.

    \b
    slimnet calibrate build/faces --data-dir DATA
    slimnet calibrate build/faces --data-dir DATA --unsure-below 0.5
    slimnet calibrate expressions --data-dir DATA --out build/expressions
    """
    refuse_missing_bundle(bundle)
    refuse_names(options)
    refuse_data_dir(options)
    if out is not None:
        refuse_out(out, force=options["force"])
    from slimnet.commands import calibrate_bundle

    made = calibrate_bundle(bundle, out, **options)
    if as_json:
        emit_json(made.as_dict())
        return
    head = ("network", "temperature", "ECE before", "ECE after", "NLL before", "NLL after", "split", "images")
    rows = [(name, *_row(entry["confidence"])) for name, entry in made.model["precisions"].items() if "confidence" in entry]
    emit_table([head, *rows])
    echo(str(made.path))


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    on = found["measured"]
    errors = (percent(on["ece"][when]) for when in ("before", "after"))
    losses = (f"{on['nll'][when]:.4f}" for when in ("before", "after"))
    return (f"{found['temperature']:g}", *errors, *losses, on["split"], str(on["count"]))
