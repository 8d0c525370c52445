"""A checkpoint with zero filters in, the small network out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slimnet.allocation import slim_aligned
from slimnet.commands.inspect import group_row
from slimnet.commands.opening import is_onnx, open_checkpoint
from slimnet.files import atomic_folder, claims_folder, write_json, write_tensors
from slimnet.measure import count
from slimnet.progress import Say, say_from

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    force: bool = False,
    say: Say = _say,
    **network: Any,
) -> dict[str, Any]:
    """Remove what is zero from a checkpoint, verify it, export it, and write a folder: all or nothing.

    Args:
        checkpoint: the weights, with zero filters; or an ONNX file, for which ``model.onnx``, ``plan.json`` and ``report.json``
            are written.
        out: folder for ``slim.safetensors``, ``plan.json``, ``config.json``, ``model.onnx``, ``report.json``;
            :func:`slimnet.load_slim` reads it.
        align: see :func:`slimnet.slim`; ``"auto"``: closed channels stay where the network is predicted to be faster with them.
        expand, tolerance: see :func:`slimnet.slim`.
        force: replace an existing folder.
        say: told what takes a while.
        **network: see :func:`open_checkpoint`.

    Returns:
        What is in ``report.json``: cost before and after, surgery, groups, parity.

    Raises:
        ArgumentError: if ``out`` exists and ``force`` is not set.
        VerificationError: if the slim network computes something else.
        ParityError: if ONNX Runtime does.
    """
    if is_onnx(checkpoint):
        from slimnet.commands.onnx_files import slim_onnx_file

        options: dict[str, Any] = {"align": align, "expand": expand, "tolerance": tolerance, "force": force}
        return slim_onnx_file(checkpoint, Path(out), **options, say=say, **network)
    from slimnet.export import export_onnx

    model, example, config = open_checkpoint(checkpoint, say=say, **network)
    result = slim_aligned(model, example, align, expand=expand, tolerance=tolerance)
    with atomic_folder(Path(out), force=force, ours=SLIM_FILES) as folder:
        reference = None if result.report.zeroed else model  # zeroing small filters changes the function on purpose
        parity = export_onnx(result.model, example, folder / "model.onnx", reference=reference, tolerance=1e-6)
        report = {
            "cost": {"before": _cost(model, example), "after": _cost(result.model, example)},
            "surgery": result.report.as_dict(),
            "groups": [group_row(group) for group in result.plan.as_dict()["groups"]],
            "parity": parity.as_dict(),
        }
        write_tensors(folder / "slim.safetensors", result.model.state_dict())
        write_json(folder / "plan.json", result.plan.as_dict())
        write_json(folder / "config.json", config)
        write_json(folder / "report.json", report)
    return report


def _cost(model: nn.Module, example: Tensor) -> dict[str, Any]:
    cost = count(model, example)
    return {"flops": cost.flops, "params": cost.params, "bytes": cost.bytes, "unknown_operators": cost.unknown}
