"""From a PyTorch model to ONNX: the export, the parity gate, the graph's steps, further precisions.

The names of `slimnet.bundle` and what an ONNX file says of itself are here too. Nothing is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimnet._lazy import lazy

if TYPE_CHECKING:
    from slimnet.bundle import Bundle, PrecisionFile, bundle_schema, compact_bundle, read_bundle, write_bundle
    from slimnet.export.exporter import export_onnx
    from slimnet.export.parity import ParityCheck, ParityReport, compare
    from slimnet.onnx.metadata import onnx_labels, onnx_statistics

__all__ = [
    "Bundle",
    "ParityCheck",
    "ParityReport",
    "PrecisionFile",
    "bundle_schema",
    "compact_bundle",
    "compare",
    "export_onnx",
    "onnx_labels",
    "onnx_statistics",
    "read_bundle",
    "write_bundle",
]

_HOME = {
    "Bundle": "slimnet.bundle.bundle",
    "PrecisionFile": "slimnet.bundle.bundle",
    "read_bundle": "slimnet.bundle.bundle",
    "write_bundle": "slimnet.bundle.write",
    "compact_bundle": "slimnet.bundle.compact",
    "bundle_schema": "slimnet.bundle.schema",
    "onnx_labels": "slimnet.onnx.metadata",
    "onnx_statistics": "slimnet.onnx.metadata",
    "export_onnx": "slimnet.export.exporter",
    "ParityCheck": "slimnet.export.parity",
    "ParityReport": "slimnet.export.parity",
    "compare": "slimnet.export.parity",
}


__getattr__ = lazy(__name__, _HOME)
