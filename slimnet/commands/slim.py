"""A checkpoint with zero filters in, the small network out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slimnet.allocation import slim_aligned
from slimnet.commands.inspect import group_row
from slimnet.commands.opening import no_part, open_checkpoint, open_part
from slimnet.errors import ArgumentError, ExportError
from slimnet.files import atomic_folder, claims_folder, write_json, write_tensors
from slimnet.known import is_onnx
from slimnet.measure import count
from slimnet.progress import Say, say_from
from slimnet.surgery import slim

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimnet.export.parity import ParityReport

_say = say_from(__name__)

SLIM_FILES = ("slim.safetensors", "plan.json", "config.json", "model.onnx", "report.json")


@claims_folder(*SLIM_FILES)
def slim_checkpoint(
    checkpoint: Path | str,
    out: Path | str,
    *,
    align: int | Literal["auto"] | None = None,
    expand: bool = False,
    tolerance: float = 0.0,
    part: str | None = None,
    as_graph: bool = False,
    force: bool = False,
    say: Say = _say,
    **network: Any,
) -> dict[str, Any]:
    """Remove what is zero from a checkpoint, verify it, export it, and write a folder: all or nothing, but ``model.onnx`` is left
    out where the network cannot be exported.

    Args:
        checkpoint: the weights, with zero filters; or an ONNX file, for which ``model.onnx``, ``plan.json`` and ``report.json``
            are written.
        out: folder for ``slim.safetensors``, ``plan.json``, ``config.json``, ``model.onnx``, ``report.json``;
            :func:`slimnet.load_slim` reads it.
        align: see :func:`slimnet.slim`; ``"auto"``: closed channels stay where the network is predicted to be faster with them.
        expand, tolerance, part, as_graph: see :func:`slimnet.slim`. Of a part, ``model.onnx`` and the costs are the part alone.
        force: replace an existing folder.
        say: told what takes a while.
        **network: see :func:`open_checkpoint`.

    Returns:
        What is in ``report.json``: cost before and after, surgery, groups, parity.

    Raises:
        ArgumentError: if ``out`` exists and ``force`` is not set.
        VerificationError: if the slim network computes something else.
        ExportError: if the network cannot be exported, or (ParityError) ONNX Runtime computes something else. All but
            ``model.onnx`` is written then.
    """
    if is_onnx(checkpoint):
        no_part(part, str(checkpoint))
        if as_graph:
            raise ArgumentError("`as_graph` is for PyTorch: an ONNX file is a graph already, leave it out.")
        from slimnet.commands.onnx_files import slim_onnx_file

        options: dict[str, Any] = {"align": align, "expand": expand, "tolerance": tolerance, "force": force}
        return slim_onnx_file(checkpoint, Path(out), **options, say=say, **network)
    from slimnet.export import export_onnx

    model, example, config = open_checkpoint(checkpoint, say=say, **network)
    if as_graph:
        if align == "auto":
            raise ArgumentError("`align` 'auto' does not go with `as_graph`: give a number of channels, or leave it out.")
        result = slim(model, example, align=align, expand=expand, tolerance=tolerance, part=part, as_graph=True)
    else:
        result = slim_aligned(model, example, align, expand=expand, tolerance=tolerance, part=part)
    refused: ExportError | None = None
    with atomic_folder(Path(out), force=force, ours=SLIM_FILES) as folder:
        reference = None if result.report.zeroed else model  # zeroing small filters changes the function on purpose
        parity: ParityReport | None = None
        try:
            parity = export_onnx(result.model, example, folder / "model.onnx", reference=reference, part=part)
        except ExportError as error:
            refused = error
        report = {
            **({} if part is None else {"part": part}),
            "cost": {"before": _cost(model, example, part), "after": _cost(result.model, example, part)},
            "surgery": result.report.as_dict(),
            "groups": [group_row(group) for group in result.plan.as_dict()["groups"]],
            "parity": None if parity is None else parity.as_dict(),
        }
        write_tensors(folder / "slim.safetensors", result.model.state_dict())
        write_json(folder / "plan.json", result.plan.as_dict())
        write_json(folder / "config.json", config if part is None else {**config, "part": part})
        write_json(folder / "report.json", report)
    if refused is not None:
        text = str(refused).replace(", nothing was written", "")
        raise ExportError(f"{out} holds the cut and verified network for PyTorch (slimnet.load_slim), but no model.onnx: {text}")
    return report


def _cost(model: nn.Module, example: Tensor, part: str | None) -> dict[str, Any]:
    cost = count(*open_part(model, example, part))
    return {"flops": cost.flops, "params": cost.params, "bytes": cost.bytes, "unknown_operators": cost.unknown}
