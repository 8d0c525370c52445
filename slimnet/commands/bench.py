"""A bundle, or ONNX files, in; a comparison out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from slimnet.commands.bench_runtimes import about, accuracies, advice, all_networks, held_by, left_out
from slimnet.commands.rebuild import load_dense_shape, load_slim
from slimnet.commands.target import against_target
from slimnet.errors import ArgumentError
from slimnet.names import BENCH_RUNTIMES, DEPLOYED, RUNTIMES

if TYPE_CHECKING:
    from slimnet.export import Bundle
    from slimnet.measure import Cost, LatencyReport
    from slimnet.measure.timed import Network
    from slimnet.models import Trust


@dataclass(frozen=True)
class BenchReport:
    """Variants side by side: cost, size on disk, paired latency.

    Attributes:
        rows: one dictionary a variant: name, file_bytes, flops and params (None where unknown), accuracy, memory_bytes (None
            where unknown or not asked for).
        latency: the paired comparison.
        paper: paper accounting of the masked network, where known.
        target: target, prediction and measurement, where the network was made for a target.
        advice: which is the fastest here, where all runtimes are compared.
        notes: what was left out, and why: a line each.
    """

    rows: tuple[Mapping[str, Any], ...]
    latency: LatencyReport
    paper: Mapping[str, Any] | None = None
    target: Mapping[str, Any] | None = None
    advice: str | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "variants": [dict(row) for row in self.rows],
            "latency": self.latency.as_dict(),
            "paper_accounting": dict(self.paper) if self.paper else None,
            "target": dict(self.target) if self.target else None,
            **({"advice": self.advice, "notes": list(self.notes)} if self.advice is not None else {}),
        }


def bench_bundle(
    path: Path | str,
    *,
    runtimes: Sequence[str] = RUNTIMES[:1],
    memory: bool = False,
    trust_code: Trust = False,
    **settings: Any,
) -> BenchReport:
    """Compare the dense and the slim network of a bundle, the latter in each precision that it holds.

    Args:
        path: a bundle.
        runtimes: what runs them: ``"onnxruntime"``, ``"torch"``, ``"torch-compile"``, or one that the bundle holds files for,
            ``"openvino"``, ``"litert"``, ``"ncnn"``; several are compared with each other, and the dense network in the first is
            the baseline. The dense network in PyTorch has fresh weights; for other runtimes there is none. ``"all"``: every file
            of the slim network in its runtime, against ONNX Runtime's fp32, and which is the fastest.
        memory: measure peak memory as well, in a process for each variant.
        trust_code: in PyTorch, let the networks be built by a factory that ``config.json`` names (see `slimnet.models.trust`).
        **settings: of :func:`slimnet.measure.compare_latency`; ``inputs`` may be a .npy or .npz file.

    Raises:
        FileFormatError: if the bundle is incomplete or corrupt.
        ModelError: if a factory is to build a network that is not trusted.
    """
    from slimnet.export import read_bundle

    unknown = [name for name in runtimes if name not in BENCH_RUNTIMES]
    if unknown or not runtimes:
        raise ArgumentError(f"`runtimes` must be of {', '.join(BENCH_RUNTIMES)}, got {unknown[0] if unknown else 'none'}.")
    bundle = read_bundle(path)
    if bundle.is_compact:
        raise ArgumentError(f"{path} is compact: it holds no dense network to compare with. Give ONNX files instead.")
    if "all" in runtimes:
        return _bench_all(bundle, memory=memory, settings=settings)
    networks: dict[str, Path | Network] = {}
    rows = []
    for runtime in dict.fromkeys(runtimes):
        for which in _variants(bundle, runtime):
            name = which if list(runtimes) == ["onnxruntime"] else f"{which} ({runtime})"
            networks[name] = _network(bundle, which, runtime, trust_code)
            cost = bundle.cost_dense if which == "dense" else bundle.cost_slim
            rows.append(_row(name, cost, _accuracy(bundle, which, runtime)))
    latency = _measured(networks, rows, memory=memory, settings=settings)
    target = against_target(bundle.report.get("target"), latency, first=runtimes[0])
    return BenchReport(tuple(rows), latency, bundle.report.get("paper_accounting"), target)


def _bench_all(bundle: Bundle, *, memory: bool, settings: dict[str, Any]) -> BenchReport:
    """Every file of the slim network, in its runtime."""
    networks, accuracy = all_networks(bundle), accuracies(bundle)
    rows = [_row(name, bundle.cost_slim, None) | about(name, accuracy) for name in networks]
    latency = _measured(networks, rows, memory=memory, settings=settings)
    return BenchReport(tuple(rows), latency, advice=advice(rows, latency), notes=tuple(left_out(bundle)))


def _variants(bundle: Bundle, runtime: str) -> list[str]:
    """What a runtime can run: further precisions are ONNX files, or its own."""
    if runtime in DEPLOYED:
        return ["slim" if name == "fp32" else f"slim {name}" for name in held_by(bundle, runtime)]
    return ["dense", "slim", *(_further(bundle) if runtime == "onnxruntime" else ())]


def _further(bundle: Bundle) -> dict[str, Path]:
    """The slim network in other precisions than fp32: name of the row → file."""
    return {f"slim {name}": path for name, path in bundle.precision_files.items() if name != "fp32"}


def _accuracy(bundle: Bundle, which: str, runtime: str) -> float | None:
    """Accuracy of a network in the runtime that it is measured in; outside of ONNX Runtime, the dense one has fresh weights."""
    known: Mapping[str, Any] = bundle.report.get("accuracy") or {}
    precision = _precision(which)
    if precision != "fp32":
        return accuracies(bundle).get(f"{runtime} {precision}")
    return known.get(which) if which != "dense" or runtime == "onnxruntime" else None


def _precision(which: str) -> str:
    """Of a network, by the name of its row."""
    return which.removeprefix("slim ") if which.startswith("slim ") else "fp32"


def bench_files(paths: Mapping[str, Path], *, memory: bool = False, **settings: Any) -> BenchReport:
    """Compare any ONNX files; the first is the baseline.

    Args:
        paths: name → ONNX file.
        memory: measure peak memory as well, in a process for each file.
        **settings: of :func:`slimnet.measure.compare_latency`; ``inputs`` may be a .npy or .npz file.
    """
    from slimnet.onnx.flops import onnx_flops

    rows = [_row(name, None, None) for name in paths]
    latency = _measured(paths, rows, memory=memory, settings=settings)
    for row, file in zip(rows, paths.values(), strict=True):
        row["flops"] = onnx_flops(file)
    return BenchReport(tuple(rows), latency)


def _network(bundle: Bundle, which: str, runtime: str, trust_code: Trust) -> Path | Network:
    if runtime == "onnxruntime":
        files = {"dense": bundle.dense_onnx, "slim": bundle.onnx, **_further(bundle)}
        return cast("Path", files[which])
    if runtime in DEPLOYED:
        return held_by(bundle, runtime)[_precision(which)]
    import torch

    from slimnet.measure import TorchNetwork

    make = partial(load_dense_shape if which == "dense" else load_slim, bundle.path, trust_code=trust_code)
    example = torch.zeros(1, *bundle.model["inputs"][0]["shape"][1:])
    return TorchNetwork(make, example, compiled=runtime == "torch-compile")


def _measured(
    networks: Mapping[str, Any], rows: Sequence[dict[str, Any]], *, memory: bool, settings: dict[str, Any]
) -> LatencyReport:
    """The comparison; the rows are given the sizes of their files, and where ``memory`` is set, their memory."""
    from slimnet.measure import Setting, compare_latency, peak_memory
    from slimnet.measure.inputs import read_inputs
    from slimnet.measure.latency import as_network

    inputs = settings.pop("inputs", None)
    inputs = read_inputs(Path(inputs)) if isinstance(inputs, str | Path) else inputs
    latency = compare_latency(networks, inputs=inputs, **settings)
    for row in rows:
        row["file_bytes"] = latency[row["name"]].bytes
    if memory:
        how = Setting(latency.threads, latency.batch, latency.provider, inputs, settings.get("seed", 0))
        for row, network in zip(rows, networks.values(), strict=True):
            row["memory_bytes"] = peak_memory(as_network(network), how)
    return latency


def _row(name: str, cost: Cost | None, accuracy: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "file_bytes": None,
        "flops": cost.flops if cost else None,
        "params": cost.params if cost else None,
        "unknown_operators": cost.unknown if cost else None,
        "accuracy": accuracy,
        "memory_bytes": None,
    }
