"""A bundle, or ONNX files, in; a comparison out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slimnet.export import Bundle
    from slimnet.measure import Cost, LatencyReport


@dataclass(frozen=True)
class BenchReport:
    """Variants side by side: cost, size on disk, paired latency.

    Attributes:
        rows: one dictionary a variant: name, file_bytes, flops and params (None where unknown), accuracy.
        latency: the paired comparison.
        paper: paper accounting of the masked network, where known.
    """

    rows: tuple[Mapping[str, Any], ...]
    latency: LatencyReport
    paper: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "variants": [dict(row) for row in self.rows],
            "latency": self.latency.as_dict(),
            "paper_accounting": dict(self.paper) if self.paper else None,
        }


def bench_bundle(path: Path | str, **settings: Any) -> BenchReport:
    """Compare the dense and the slim network of a bundle, the latter in each precision that it holds.

    Args:
        path: a bundle.
        **settings: of :func:`slimnet.measure.compare_latency`.

    Raises:
        FileFormatError: if the bundle is incomplete or corrupt.
    """
    from slimnet.export import read_bundle
    from slimnet.measure import compare_latency

    bundle = read_bundle(path)
    further = {f"slim {name}": path for name, path in bundle.precision_files.items() if name != "fp32"}
    files = {"dense": bundle.dense_onnx, "slim": bundle.onnx, **further}
    latency = compare_latency(files, **settings)
    accuracy = {**(bundle.report.get("accuracy") or {}), **_accuracies(bundle)}
    rows = tuple(
        _row(name, file, bundle.cost_dense if name == "dense" else bundle.cost_slim, accuracy.get(name))
        for name, file in files.items()
    )
    return BenchReport(rows, latency, bundle.report.get("paper_accounting"))


def _accuracies(bundle: Bundle) -> dict[str, float]:
    """Accuracy of the further precisions, by the names of their rows."""
    known = {name: entry.get("accuracy") for name, entry in bundle.model["precisions"].items() if name != "fp32"}
    return {f"slim {name}": accuracy["value"] for name, accuracy in known.items() if accuracy}


def bench_files(paths: Mapping[str, Path], **settings: Any) -> BenchReport:
    """Compare any ONNX files; the first is the baseline.

    Args:
        paths: name → ONNX file.
        **settings: of :func:`slimnet.measure.compare_latency`.
    """
    from slimnet.measure import compare_latency

    latency = compare_latency(paths, **settings)
    return BenchReport(tuple(_row(name, file, None, None) for name, file in paths.items()), latency)


def _row(name: str, file: Path, cost: Cost | None, accuracy: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "file_bytes": file.stat().st_size,
        "flops": cost.flops if cost else None,
        "params": cost.params if cost else None,
        "unknown_operators": cost.unknown if cost else None,
        "accuracy": accuracy,
    }
