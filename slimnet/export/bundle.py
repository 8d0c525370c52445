"""The bundle: a folder with all that it takes to use a slim network, and to check what is claimed of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet._files import atomic_folder, check_output, read_json, write_json, write_tensors
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.export import manifest
from slimnet.export.parity import DOUBLE_TOLERANCE, ParityReport
from slimnet.measure.cost import Cost

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimnet.export.steps import Mode


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written or read.

    Attributes:
        path: its folder.
        model: contents of ``model.json``.
        report: contents of ``report.json``.
        parity: of ``model.onnx`` with the slim and the masked network.
        cost_dense: of the network before pruning.
        cost_slim: realised, of the network in ``model.onnx``.
    """

    path: Path
    model: dict[str, Any]
    report: dict[str, Any]
    parity: ParityReport
    cost_dense: Cost
    cost_slim: Cost

    @property
    def onnx(self) -> Path:
        """The slim network."""
        return self.path / "model.onnx"

    @property
    def dense_onnx(self) -> Path:
        """The baseline."""
        return self.path / "dense.onnx"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"path": str(self.path), "model": self.model, "report": self.report}


def write_bundle(
    out: Path | str,
    *,
    masked: nn.Module,
    slim: nn.Module,
    dense: nn.Module,
    example_inputs: Tensor | tuple[Tensor, ...],
    plan: Mapping[str, Any],
    config: Mapping[str, Any],
    labels: Sequence[str],
    preprocessing: Mapping[str, Any],
    real_inputs: Sequence[Tensor | tuple[Tensor, ...]],
    accuracy: Mapping[str, Any] | None = None,
    extra_report: Mapping[str, Any] | None = None,
    opset: int | None = None,
    tolerance: float = DOUBLE_TOLERANCE,
    optimise: Mode = "safe",
    force: bool = False,
) -> Bundle:
    """Export slim and dense network, pass the parity gate, and write the bundle: all of it or nothing.

    Args:
        out: folder to make.
        masked: the network that the slim one was cut from; what it must agree with.
        slim: the network to ship.
        dense: the baseline, before pruning.
        example_inputs: (N, …) tensor, or one for each input.
        plan: what the surgeon did.
        config: how to build the network that the plan applies to.
        labels: name of each output.
        preprocessing: how a picture becomes the input: ``size``, ``channels``, ``range``, ``mean``, ``std``,
            ``layout``, ``resize``.
        real_inputs: real batches for the gate; at least one.
        accuracy: what was measured, with split and count.
        extra_report: more for ``report.json``.
        opset: of both ONNX files.
        tolerance: of the slim against the masked network, see :func:`slimnet.export_onnx`.
        optimise: steps that make both graphs faster, see :func:`slimnet.export_onnx`.
        force: replace an existing folder.

    Returns:
        The bundle as written.

    Raises:
        ArgumentError: if ``out`` holds something and ``force`` is not set, or anything but a bundle; or labels,
            preprocessing or inputs do not fit.
        ExportError: if a network cannot be exported; ParityError among them. Nothing is written.
    """
    from slimnet.export._gate import Examples
    from slimnet.export.onnx import build
    from slimnet.measure.flops import count

    out = Path(out)
    check_output(out, force=force, ours=manifest.ALL_FILES)
    manifest.check_preprocessing(preprocessing)
    if not real_inputs:
        raise ArgumentError("`real_inputs` is empty: the parity gate needs real input.")
    examples = Examples.of(example_inputs, real_inputs)
    slim_built = build(slim, examples, reference=masked, opset=opset, tolerance=tolerance, optimise=optimise)
    slim_onnx, parity = slim_built.data, slim_built.parity
    interface = _interface(slim_onnx)
    manifest.check_labels(labels, interface["outputs"][0]["shape"])
    dense_built = build(dense, examples, opset=opset, optimise=optimise)
    dense_onnx, parity_dense = dense_built.data, dense_built.parity
    costs = {"dense": count(dense, examples.example), "slim": count(slim, examples.example)}
    measured = {"accuracy": dict(accuracy or {})}
    report = {
        "parity": {"slim": parity.as_dict(), "dense": parity_dense.as_dict()},
        "cost": {name: cost.as_dict() for name, cost in costs.items()},
        "graph": {"slim": slim_built.steps.as_dict(), "dense": dense_built.steps.as_dict()},
        **measured,
        **(extra_report or {}),
    }
    model = {
        "format": manifest.FORMAT,
        "schema": manifest.SCHEMA,
        **interface,
        "labels": list(labels),
        "preprocessing": dict(preprocessing),
        "cost": manifest.cost_summary(costs["dense"], costs["slim"]),
        **measured,
        "parity": {key: parity.as_dict()[key] for key in ("passed", "worst")},
        "versions": manifest.versions(),
    }
    with atomic_folder(out, force=force, ours=manifest.ALL_FILES) as folder:
        (folder / "model.onnx").write_bytes(slim_onnx)
        (folder / "dense.onnx").write_bytes(dense_onnx)
        write_tensors(folder / "slim.safetensors", slim.state_dict())
        for name, value in (("plan", plan), ("config", config), ("report", report)):
            write_json(folder / f"{name}.json", value)
        model["files"] = manifest.file_entries(folder)
        write_json(folder / "model.json", model)
    return Bundle(out, model, report, parity, costs["dense"], costs["slim"])


def read_bundle(path: Path | str) -> Bundle:
    """Read a bundle's description, and check that its files are the ones it describes. Needs no torch.

    Raises:
        FileFormatError: if the folder is not a bundle, lacks a file, or holds one that was changed or cut
            short.
    """
    path = Path(path)
    if not path.is_dir():
        reason = "is not a folder" if path.exists() else "does not exist"
        raise FileFormatError(f"{path} {reason}: give a bundle that `slimnet export` has written.")
    if not (path / "model.json").is_file():
        raise FileFormatError(f"{path} is not a bundle: it holds no model.json. `slimnet export` makes one from a run.")
    model = read_json(path / "model.json")
    if model.get("format") != manifest.FORMAT or model.get("schema") != manifest.SCHEMA:
        found = f"{model.get('format')} {model.get('schema')}"
        wanted = f"{manifest.FORMAT} {manifest.SCHEMA}"
        raise FileFormatError(f"{path / 'model.json'} is {found}, not {wanted}: export the bundle again.")
    files = model.get("files")
    manifest.check_files(path, files if isinstance(files, dict) else {})
    report = read_json(path / "report.json")
    try:
        parity = ParityReport.from_dict(report["parity"]["slim"])
        dense, slim = (Cost.from_dict(report["cost"][name]) for name in ("dense", "slim"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{path / 'report.json'} lacks or garbles {error}: export the bundle again.") from None
    return Bundle(path, model, report, parity, dense, slim)


def _interface(data: bytes) -> dict[str, Any]:
    """Opset, inputs and outputs as the ONNX file has them."""
    import onnx

    proto = onnx.load_from_string(data)
    return {
        "opset": max(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")),
        "inputs": [_value(value) for value in proto.graph.input],
        "outputs": [_value(value) for value in proto.graph.output],
    }


def _value(value: Any) -> dict[str, Any]:
    import onnx

    tensor = value.type.tensor_type
    dims = [d.dim_param or d.dim_value for d in tensor.shape.dim]
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return {"name": value.name, "dtype": dtype, "shape": dims}
