"""``model.json``: what a deployer needs to use the network, and to know that the files are the right ones."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from slimnet.errors import ArgumentError, FileFormatError
from slimnet.measure.cost import Cost

FORMAT = "slimnet-bundle"
SCHEMA = 1

FILES = ("model.onnx", "dense.onnx", "slim.safetensors", "plan.json", "config.json", "report.json")
"""What a bundle holds beside ``model.json``."""

ALL_FILES = (*FILES, "model.json")
"""What a bundle holds."""

PREPROCESSING = ("size", "channels", "range", "mean", "std", "layout", "resize")
"""What ``preprocessing`` must say: how a picture becomes the input."""

_PACKAGES = ("slimnet", "torch", "onnx", "onnxruntime", "onnxscript", "numpy")


def check_preprocessing(preprocessing: Mapping[str, Any]) -> None:
    """Refuse preprocessing that a deployer could not repeat.

    Raises:
        ArgumentError: if a key is missing.
    """
    missing = [key for key in PREPROCESSING if key not in preprocessing]
    if missing:
        raise ArgumentError(f"`preprocessing` lacks {', '.join(missing)}: it must say {', '.join(PREPROCESSING)}.")


def check_labels(labels: Sequence[str], output_shape: Sequence[int | str]) -> None:
    """Refuse labels that do not name every output.

    Raises:
        ArgumentError: if their number is not that of the logits in ``output_shape``, (batch, C).
    """
    if len(output_shape) < 2 or output_shape[1] != len(labels):
        raise ArgumentError(f"`labels` names {len(labels)} classes, but the network's output is {[*output_shape]}.")


def cost_summary(dense: Cost, slim: Cost) -> dict[str, Any]:
    """Dense and realised cost of one image (multiply-adds), and how many times less the slim one is."""
    sizes = {name: {"flops": c.flops, "params": c.params, "bytes": c.bytes} for name, c in _named(dense, slim)}
    unknown = {name: cost.unknown for name, cost in _named(dense, slim) if cost.unknown}
    return {
        "convention": "multiply-adds for one image, one multiply-add counts as one (fvcore)",
        **sizes,
        "flops_ratio": dense.flops / slim.flops if slim.flops else None,
        "unknown_operators": unknown,
    }


def file_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of a bundle except ``model.json``."""
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in FILES}


def check_files(folder: Path, entries: Mapping[str, Any]) -> None:
    """Compare the files with what ``model.json`` says of them.

    Raises:
        FileFormatError: if a file is missing, is not listed, or has other contents.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise FileFormatError(f"{folder / name} does not exist: the bundle is incomplete, export it again.")
        if name not in entries:
            raise FileFormatError(f"{folder / 'model.json'} does not list {name}: export the bundle again.")
        entry = entries[name]
        if not isinstance(entry, dict) or sha256(folder / name) != entry.get("sha256"):
            raise FileFormatError(f"{folder / name} is not the file that was exported: its SHA-256 differs.")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of what takes part in an export; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _named(dense: Cost, slim: Cost) -> tuple[tuple[str, Cost], ...]:
    return ("dense", dense), ("realised", slim)
