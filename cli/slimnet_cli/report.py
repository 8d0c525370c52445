"""``slimnet report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_json, emit_table, number, percent, say
from slimnet_cli._options import as_json, existing, force, trust_code
from slimnet_cli._quick import refuse_run


@click.command("report")
@click.argument("run", type=existing)
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Folder to write (default: report in the run).")
@trust_code
@force
@as_json
def command(run: Path, out: Path | None, trust_code: bool, force: bool, as_json: bool) -> None:
    """Write a page about a run: one self-contained report.html, and its pictures as PNG.

    A run that is not finished is shown as far as it came. An earlier report is replaced.

    \b
    slimnet report runs/r56
    slimnet report runs/r56 --out r56-report
    """
    refuse_run(run)
    from slimnet.commands.report import write_report

    report = write_report(run, out, force=force, trust_code=trust_code)
    for reason in report.left_out:
        say(f"left out: {reason}")
    if as_json:
        emit_json(report.as_dict())
    else:
        _table(report.headline)
        echo(report.path)


def _table(headline: dict[str, Any]) -> None:
    if headline["best_epoch"] is None:
        say(f"the run is not finished: {headline['epochs']} of {headline['planned_epochs']} epochs")
    dense, slim = headline["flops"] or (None, None)
    split = headline["tested_on"]
    tested = {"test accuracy": percent(headline["test_accuracy"])} if split == "test" else {}
    emit_table(
        [
            ("epochs", "val accuracy", *tested, f"{split} macro-F1", "closed filters", "FLOPs, dense", "FLOPs, slim"),
            (
                f"{headline['epochs']} of {headline['planned_epochs']}",
                percent(headline["val_accuracy"]),
                *tested.values(),
                "-" if headline["test_macro_f1"] is None else f"{headline['test_macro_f1']:.4f}",
                percent(headline["closed_share"]),
                number(dense),
                number(slim),
            ),
        ]
    )
