"""From a PyTorch model to files that others can use: ONNX, the parity gate, the bundle.

Nothing here is imported before it is asked for: a bundle is read without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimnet._lazy import lazy

if TYPE_CHECKING:
    from slimnet.export._proto import onnx_labels, onnx_statistics
    from slimnet.export.bundle import Bundle, PrecisionFile, read_bundle
    from slimnet.export.compact import compact_bundle
    from slimnet.export.onnx import export_onnx
    from slimnet.export.parity import ParityCheck, ParityReport, compare
    from slimnet.export.schema import bundle_schema
    from slimnet.export.write import write_bundle

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
    "Bundle": "bundle",
    "PrecisionFile": "bundle",
    "read_bundle": "bundle",
    "write_bundle": "write",
    "compact_bundle": "compact",
    "bundle_schema": "schema",
    "onnx_labels": "_proto",
    "onnx_statistics": "_proto",
    "export_onnx": "onnx",
    "ParityCheck": "parity",
    "ParityReport": "parity",
    "compare": "parity",
}


__getattr__ = lazy(__name__, _HOME)
