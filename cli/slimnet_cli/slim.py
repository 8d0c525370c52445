"""``slimnet slim``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slimnet_cli._clean import echo
from slimnet_cli._emit import emit_json, emit_table, number
from slimnet_cli._options import align, as_json, existing, folder_out, force, network, part, time_limit
from slimnet_cli._quick import refuse_missing, refuse_names, refuse_out


@click.command("slim")
@click.argument("checkpoint", type=existing)
@network
@part
@align
@click.option("--expand", is_flag=True, help="Compute only live rows of layers that add to a stream (concatenate and gather).")
@click.option("--tolerance", type=float, default=0.0, help="Filters of at most this share of the largest norm count as zero.")
@click.option(
    "--as-graph",
    is_flag=True,
    help="Make torch.export's program the slim network: numbers in its code that count channels pin nothing then.",
)
@folder_out
@time_limit
@force
@as_json
def command(checkpoint: Path, out: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Remove what is zero from any checkpoint, whoever made the zeros: exactly, or not at all.

    Writes slim.safetensors, plan.json, config.json, model.onnx and report.json; of an ONNX file, which needs no --model,
    model.onnx, plan.json and report.json. Where a network cannot be exported, all but model.onnx is written, and the status is 1.

    \b
    slimnet slim fpgm_resnet56.pth --model resnet56 --out build/slim
    slimnet slim detector.pth --model FILE.py:detector --part backbone+head --image-size 320 --out build/slim
    slimnet slim swin.pth --model torchvision:swin_t --as-graph --out build/slim
    slimnet slim model.onnx --out build/slim
    """
    refuse_names(options)
    refuse_missing(checkpoint)
    refuse_out(out, force=force)
    from slimnet.commands import slim_checkpoint

    report = slim_checkpoint(checkpoint, out, force=force, **options)
    if as_json:
        emit_json(report)
        return
    cost, surgery = report["cost"], report["surgery"]
    emit_table(
        [
            ("", "before", "after", "before ÷ after"),
            *(
                (name, number(cost["before"][key]), number(cost["after"][key]), _ratio(cost, key))
                for name, key in (("FLOPs", "flops"), ("parameters", "params"), ("bytes", "bytes"))
            ),
        ]
    )
    echo(f"slim network: {surgery['way']}")
    echo(f"channels: {surgery['removed']} removed, {surgery['closed']} were zero in every layer")
    echo(f"parity: {surgery['verification']['worst']:.1e} relative in float64")
    echo(f"cut in {surgery['seconds']:.1f} s, verified in {surgery['verify_seconds']:.1f} s")
    echo(str(out))


def _ratio(cost: dict[str, Any], key: str) -> str:
    return f"{cost['before'][key] / cost['after'][key]:.2f}"
