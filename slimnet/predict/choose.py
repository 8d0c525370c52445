"""Which file of a bundle to run."""

from __future__ import annotations

from pathlib import Path

from slimnet.errors import FileFormatError
from slimnet.export import Bundle

AUTO = "auto"


def chosen_file(bundle: Bundle, precision: str) -> tuple[str, Path]:
    """The precision that is asked for, and its ONNX file.

    Args:
        bundle: what to choose from.
        precision: a name, or ``"auto"``.

    Raises:
        FileFormatError: if the bundle has no such precision.
    """
    files = bundle.precision_files
    if precision == AUTO:
        precision = "fp32"
    if precision not in files:
        raise FileFormatError(f"{bundle.path} holds no {precision} network: it has {', '.join(files)}.")
    return precision, files[precision]
