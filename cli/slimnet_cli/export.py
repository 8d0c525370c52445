"""``slimnet export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_json, emit_table, number, percent, say
from slimnet_cli._flags import Command, Named, section
from slimnet_cli._options import Several, align, as_json, existing, folder_out, force, time_limit, trust_code, unsure_below
from slimnet_cli._precision import precision_options, show_precisions, take_precisions
from slimnet_cli._quick import refuse_data_dir, refuse_formats, refuse_out, refuse_run


@click.command("export", cls=Command)
@click.argument("run", type=existing)
@section(
    "Bundle",
    folder_out,
    click.option(
        "--dense",
        type=existing,
        help="The baseline: a run, or weights of the same network (default: the weights the run started from).",
    ),
    click.option("--data-dir", metavar="DIR", help="Where the data set of the run lies now (default: where it lay in training)."),
    click.option(
        "--formats",
        type=Several(Named("FORMATS")),
        default="onnx",
        show_default=True,
        metavar="NAME,…",
        help="onnx, openvino, tflite, ncnn: what other runtimes read, each checked there (needs slimnet[openvino] and the like).",
    ),
    click.option("--embed-preprocessing", is_flag=True, help="Write model.uint8.onnx too: pictures in, probabilities out."),
    unsure_below,
    click.option("--compact", is_flag=True, help="Keep the smallest network alone: no dense one, nothing for PyTorch."),
    force,
)
@section(
    "Graph",
    align,
    click.option("--opset", type=int, help="ONNX operator set of the files, from 11 (int8: 13).  [default: 20]"),
    click.option(
        "--optimise",
        type=Named("MODES"),
        default="safe",
        show_default=True,
        help="Steps that make the graphs faster: those that only take work away; or all, each timed and kept if it pays here.",
    ),
)
@section("Precision", precision_options)
@time_limit
@trust_code
@as_json
def command(run: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Cut the closed filters out of RUN, prove that nothing changed, and write an ONNX bundle.

    \b
    slimnet export runs/r56 --out build/r56
    slimnet export runs/r56 --out build/r56 --precision int8,fp16
    slimnet export runs/r56 --out build/r56 --precision int8 --compact
    slimnet export runs/r56 --out build/r56 --formats onnx,openvino,tflite,ncnn
    """
    refuse_run(run)
    refuse_data_dir(options)
    refuse_out(out, force=options["force"])
    precisions = take_precisions(options)
    refuse_formats(options["formats"], precisions.further)
    from slimnet.commands import export_compact, export_run

    export = export_compact if options.pop("compact") else export_run
    bundle = export(run, out, precisions=precisions, **options)
    if as_json:
        emit_json(bundle.as_dict())
    else:
        _table(bundle)


def _table(bundle: Any) -> None:
    report, dense, slim = bundle.report, bundle.cost_dense, bundle.cost_slim
    accuracy = report["accuracy"]
    emit_table(
        [
            ("", "dense", "slim", "dense ÷ slim"),
            (f"{accuracy['split']} accuracy", percent(accuracy["dense"]), percent(accuracy["slim"]), ""),
            ("FLOPs", number(dense.flops), number(slim.flops), f"{dense.flops / slim.flops:.2f}"),
            ("parameters", number(dense.params), number(slim.params), f"{dense.params / slim.params:.2f}"),
            ("ONNX bytes", *_bytes(bundle)),
        ]
    )
    saved = 1 - slim.flops / dense.flops
    paper = report["paper_accounting"]["saved"]
    echo(f"FLOPs saved: {percent(saved)} realised, {percent(paper)} in paper accounting (multiply-adds).")
    surgery = report["surgery"]
    echo(f"parity: slim against masked {surgery['verification']['worst']:.1e} relative in float64 (at most 1e-9)")
    echo(f"        ONNX Runtime against masked {_onnx_error(bundle):.1e} relative in float32 (at most 1e-5)")
    _steps(report["graph"])
    kept = surgery["closed"] - surgery["removed"]
    echo(f"channels: {surgery['removed']} removed of {surgery['closed']} closed" + (f", {kept} stay" if kept > 0 else ""))
    for name, cost in (("dense", dense), ("slim", slim)):
        if cost.unknown:
            say(f"warning: operators of the {name} network that are not counted: {', '.join(cost.unknown)}")
    if bundle.choice:
        show_precisions(bundle.choice, bundle.model["precisions"])
    _formats(bundle.report.get("formats") or {})
    if bundle.is_compact:
        echo(f"compact: {bundle.onnx.name} alone; FLOPs and accuracy above are of the slim network in fp32")
    echo(str(bundle.path))


def _formats(found: dict[str, Any]) -> None:
    """A line for each format and precision: how near it is, or why it is not written."""
    for name, precisions in found.items():
        for precision, told in precisions.items():
            if not told["written"]:
                say(f"warning: {name} in {precision} is not written: {told['reason']}")
            elif "parity" in told:
                far, most = (told["parity"][key] for key in ("relative", "tolerance"))
                echo(f"{name} {precision}: {far:.1e} relative in {told['runtime']['name']} (at most {most:g})")
            else:
                known = told["accuracy"]
                echo(f"{name} {precision}: {known['split']} accuracy {percent(known['value'])} in {told['runtime']['name']}")


def _steps(graphs: dict[str, Any]) -> None:
    """A line for each step that was timed, or refused."""
    for name, graph in graphs.items():
        for step in graph["steps"]:
            timed = "" if step["speedup"] is None else "{:.3f}× ({:.3f}–{:.3f}), ".format(step["speedup"], *step["interval"])
            if timed or not step["kept"]:
                echo(f"{name} {step['name']}: {timed}{step['reason']}")


def _onnx_error(bundle: Any) -> float:
    from slimnet.export.parity import ONNX_REFERENCE

    check = bundle.parity.worst_of(ONNX_REFERENCE)
    return float(check.relative)


def _bytes(bundle: Any) -> tuple[str, str, str]:
    slim = bundle.onnx.stat().st_size
    if bundle.dense_onnx is None:
        return "", number(slim), ""
    dense = bundle.dense_onnx.stat().st_size
    return number(dense), number(slim), f"{dense / slim:.2f}"
