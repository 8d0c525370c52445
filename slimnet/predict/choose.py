"""Which file of a bundle to run."""

from __future__ import annotations

from pathlib import Path

from slimnet.errors import ArgumentError, FileFormatError
from slimnet.export import Bundle
from slimnet.export.manifest import PRECISIONS

AUTO = "auto"


def chosen_file(bundle: Bundle, precision: str) -> tuple[str, Path]:
    """The precision that is asked for, and its ONNX file.

    Args:
        bundle: what to choose from.
        precision: a name, or ``"auto"``.

    Raises:
        ArgumentError: if there is no such precision at all.
        FileFormatError: if the bundle has no such precision.
    """
    if precision not in (AUTO, *PRECISIONS):
        raise ArgumentError(f"unknown precision {precision!r}; known: {', '.join((AUTO, *PRECISIONS))}.")
    files = bundle.precision_files
    if precision == AUTO:
        precision = "fp32"
    if precision not in files:
        raise FileFormatError(f"{bundle.path} holds no {precision} network: it has {', '.join(files)}.")
    return precision, files[precision]
