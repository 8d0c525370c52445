"""``slimnet inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import clean, echo
from slimnet_cli._emit import emit_json, emit_table, percent
from slimnet_cli._numbers import Finite
from slimnet_cli._options import as_json, existing, network, part
from slimnet_cli._quick import refuse_missing, refuse_names


@click.command("inspect")
@click.argument("checkpoint", type=existing)
@network
@part
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw kept width against original (.png, .svg, .pdf)."
)
@click.option(
    "--cross-check",
    "check",
    is_flag=True,
    help="Hold the channel sets against torch-pruning's; where they differ, cut one set each way and say who is exact.",
)
@click.option(
    "--cross-check-seconds",
    "seconds",
    type=Finite(min=0, min_open=True),
    metavar="SECONDS",
    help="The most that torch-pruning may take: on some networks it never ends.  [default: 60]",
)
@as_json
def command(checkpoint: Path, plot: Path | None, as_json: bool, **options: Any) -> None:
    """Show the channel groups of a network: what is zero, what can go, and if not, why.

    \b
    slimnet inspect fpgm_resnet56.pth --model resnet56
    slimnet inspect fpgm_resnet56.pth --model resnet56 --cross-check
    slimnet inspect model.onnx
    """
    if options["seconds"] is not None and not options["check"]:
        raise click.UsageError("--cross-check-seconds is for --cross-check: give both, or leave it out.")
    refuse_names(options)
    refuse_missing(checkpoint)
    from slimnet.commands import inspect_checkpoint

    report = inspect_checkpoint(checkpoint, **options)
    if plot is not None:
        from slimnet.report import plot_widths

        plot_widths(report["groups"], plot)
    if as_json:
        emit_json(report)
        return
    rows = [("group", "channels", "closed", "partly", "can go", "FLOPs", "why the rest stays")]
    for group in report["groups"]:
        why = "; ".join(f"{count}: {reason}" for reason, count in group["reasons"].items())
        removable = group["size"] - group["kept"]
        rows.append(
            (group["name"], *map(str, (group["size"], group["closed"], group["partly"], removable)),
             percent(group["flops_share"]), why)
        )  # fmt: skip
    emit_table(rows)
    if report["runs"]:
        echo("")
        seen = "the one path that it took was" if report["runs"] == 1 else f"{report['runs']} runs of it were"
        echo(f"The control flow of this network depends on data: {seen} recorded, and the groups hold for what ran.")
    if "no_answer" in report:
        echo("")
        echo(clean(report["no_answer"]))
    if "differences" in report:
        _emit_differences(report["differences"])


def _emit_differences(differences: list[dict[str, Any]]) -> None:
    """A row for each kind of difference from torch-pruning, or a line that there is none."""
    echo("")
    if not differences:
        echo("torch-pruning has the same channel sets.")
        return
    rows = [("layers", "sets", "slimnet cuts", "error", "torch-pruning cuts", "error", "right")]
    for found in differences:
        sides = (_tried(found["ours"]), _tried(found["theirs"]))
        rows.append((_some(found["layers"]), str(found["channels"]), *sides[0], *sides[1], found["right"]))
    emit_table(rows)


def _tried(side: dict[str, Any]) -> tuple[str, str]:
    error = side["note"] if side["error"] is None else f"{side['error']:.1e}"
    return _some(side["filters"]) or "nothing", error


def _some(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    return clean(", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else ""))
