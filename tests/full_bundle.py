"""What makes a bundle that holds all that one can hold."""

from __future__ import annotations

from pathlib import Path

from export_cases import bundle_arguments, net, real
from slimnet.export import PrecisionFile, export_onnx

EVALUATION = {
    "per_class": [1.0, 0.5, None, 0.0, 0.25],
    "confusion": [[2, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5, [4, 0, 0, 0, 0], [3, 0, 0, 0, 1]],
    "f1": [0.5, 0.6667, None, 0.0, 0.4],
    "macro_f1": 0.3917,
}


def full_arguments(folder: Path):
    """Everything that a bundle can hold. The other precisions are the same network: what is in a file is their maker's affair."""
    export_onnx(net(), real(1), folder / "again.onnx")
    data = (folder / "again.onnx").read_bytes()
    accuracy = {"split": "val", "count": 12, "value": 0.5}
    report = {"data": {"name": "toys", "train": 100, "terms": None}, "evaluation": {"slim": EVALUATION, "dense": EVALUATION}}
    return bundle_arguments(
        precisions={"fp16": PrecisionFile(data, {}), "int8": PrecisionFile(data, {"accuracy": accuracy, "method": "minmax"})},
        embed_preprocessing=True,
        provenance={"recipe": "r", "seed": 3},
        extra_report=report,
    )
