"""``slimnet verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_json, emit_table, say
from slimnet_cli._options import BundlePath, as_json, time_limit, trust_code
from slimnet_cli._quick import refuse_missing_bundle

LOOKED_AT = {
    "model.json": "it is JSON of a version that is known",
    "files": "all are there, none was changed, none is foreign",
    "schema": "model.json has the published form",
    "labels": "one for each output",
    "report": "accuracy and cost are those of report.json",
    "onnx": "valid, with the opset, inputs, outputs and metadata of model.json",
    "parity": "ONNX Runtime gives what the network rebuilt in PyTorch gives",
    "precisions": "every ONNX file runs, and is like model.onnx where that is there",
}
FORMATS = "what other runtimes read gives there what model.onnx gives"


@click.command("verify")
@click.argument("bundle", type=BundlePath())
@click.option("--parity/--no-parity", default=True, show_default=True, help="Run the networks; without it no torch is needed.")
@time_limit
@trust_code
@as_json
def command(bundle: Path, parity: bool, trust_code: bool, as_json: bool) -> int:
    """Look for all that may be wrong with BUNDLE: a line for each fault, and exit status 1.

    BUNDLE is a folder, or the name of a bundle that slimnet ships. Of a compact one the network is run, and cannot be rebuilt.
    A folder that `slimnet slim` wrote will do too: its ONNX file is compared with its network.

    \b
    slimnet verify build/r56
    """
    refuse_missing_bundle(bundle)
    from slimnet.commands.verify import verify_bundle

    report = verify_bundle(bundle, parity=parity, trust_code=trust_code)
    if as_json:
        emit_json(report.as_dict())
    elif report.passed:
        _table(report)
    for note in report.notes:
        say(f"warning: {note}")
    for fault in report.faults:
        say(f"slimnet: error: {fault}")
    return 0 if report.passed else 1


def _table(report: Any) -> None:
    rows = [(name, "good" if name in report.checks else "not looked at", about) for name, about in LOOKED_AT.items()]
    if "formats" in report.checks:
        rows.append(("formats", "good", FORMATS))
    emit_table([("check", "result", "what"), *((name, *rest) for name, *rest in rows)])
    for name, value in report.figures.items():
        echo(f"{name}: {value:.2g}" + (" relative" if name.startswith("parity") else ""))
