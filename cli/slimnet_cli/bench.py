"""``slimnet bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from slimnet_cli._emit import emit_json, emit_table, number, percent, say
from slimnet_cli._options import as_json, existing


@click.command("bench")
@click.argument("what", nargs=-1, required=True, type=existing)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images a run.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of ONNX Runtime.")
@click.option("--rounds", type=click.IntRange(min=1), default=200, show_default=True, help="Least number of rounds.")
@click.option("--seconds", type=click.FloatRange(min=0), default=10.0, show_default=True, help="Least time of rounds.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of inputs, order and bootstrap.")
@as_json
def command(what: tuple[Path, ...], as_json: bool, **settings: Any) -> None:
    """Compare the dense and the slim network of a bundle, or any ONNX files (the first is the baseline).

    Latency is paired: every round runs every network once, in random order, and the baseline twice (A/A).

    \b
    slimnet bench build/r56
    slimnet bench a.onnx b.onnx --threads 2 --batch 8
    """
    from slimnet.pipeline import bench_bundle, bench_files

    settings["progress"] = _progress()
    if len(what) == 1 and what[0].suffix != ".onnx":
        report = bench_bundle(what[0], **settings)
    else:
        report = bench_files(_names(what), **settings)
    if as_json:
        emit_json(report.as_dict())
    else:
        _table(report)


def _progress() -> Callable[[float], None]:
    """Tells of every quarter that is done, once."""
    told = 0

    def progress(share: float) -> None:
        nonlocal told
        quarter = int(4 * share)
        if quarter > told:
            told = quarter
            say(f"timing: {25 * quarter} %")

    return progress


def _names(paths: tuple[Path, ...]) -> dict[str, Path]:
    """File names as variant names, with their folders where they would be the same."""
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise click.UsageError("the same file is given twice.")
    return dict(zip(names, paths, strict=True))


def _table(report: Any) -> None:
    latency = report.latency
    rows = [("network", "accuracy", "FLOPs", "parameters", "bytes", "median", "speed-up", "95 % interval")]
    for row, variant in zip(report.rows, latency.variants, strict=True):
        low, high = variant.interval
        rows.append(
            (
                row["name"],
                percent(row["accuracy"]),
                number(row["flops"]),
                number(row["params"]),
                number(row["file_bytes"]),
                f"{variant.median_ms:.3f} ms",
                f"{variant.speedup:.2f}",
                f"{low:.2f}–{high:.2f}",
            )
        )
    emit_table(rows)
    low, high = latency.control.interval
    click.echo(
        f"A/A control: {latency.control.speedup:.3f} ({low:.3f}–{high:.3f}); batch {latency.batch}, "
        f"{latency.threads} thread{'s' if latency.threads > 1 else ''}, {latency.rounds} rounds"
    )
    if report.paper:
        click.echo(f"FLOPs saved in paper accounting: {percent(report.paper['saved'])}; FLOPs are multiply-adds")
    for flag in latency.flags.values():
        say(f"warning: {flag}")
    for row in report.rows:
        if row["unknown_operators"]:
            say(f"warning: operators of {row['name']} that are not counted: {', '.join(row['unknown_operators'])}")
