"""What can be refused at once, by tables of names and the file system, without torch: unknown names, missing paths."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from slimnet.errors import ArgumentError, DataError, FileFormatError, ModelError, unknown
from slimnet.fields import shown
from slimnet.names import CRITERIA, DATA, METHODS, MODELS

_REGISTERED = re.compile(r"^@register_model\((?:name=[\"'](\w+)[\"'])?\)\n(?:@[^\n]*\n)*def (\w+)", re.MULTILINE)
FACTORY = "; or package.module:function for your own"


@cache
def torchvision_names() -> tuple[str, ...]:
    """Names of torchvision's classifiers, read from its source: it is not imported. Empty where there is no source to read."""
    found = find_spec("torchvision")
    files = Path(found.origin).parent.joinpath("models").glob("*.py") if found and found.origin else ()
    texts = [path.read_text(encoding="utf-8") for path in sorted(files)]
    return tuple(sorted(name or function for text in texts for name, function in _REGISTERED.findall(text)))


def check_model_name(name: str) -> None:
    """Refuse a plain name that no network has; what stands for code of the user's or of other libraries is left to them.

    Raises:
        ModelError: naming the nearest one.
    """
    if name in MODELS or ":" in name:
        return
    others = torchvision_names()
    if others and name not in others:
        known = (*MODELS, *(other for other in others if other not in MODELS))
        raise ModelError(unknown("Unknown model", name, known, FACTORY))


def check_data_name(name: str) -> None:
    """Refuse a name that no data set has.

    Raises:
        DataError: naming the nearest one.
    """
    if name not in DATA and ":" not in name and not Path(name).exists():
        raise DataError(unknown("Unknown data set", name, DATA))


def check_method_name(name: str) -> None:
    """Refuse a name that no method has.

    Raises:
        ArgumentError: naming the known ones.
    """
    if name not in METHODS:
        raise ArgumentError(f"unknown method {shown(name)}; known: {', '.join(METHODS)}.")


def check_criterion_name(name: str) -> None:
    """Refuse a name that no criterion has.

    Raises:
        ArgumentError: naming the known ones.
    """
    if name not in CRITERIA:
        raise ArgumentError(f"unknown `criterion` {shown(name)}; known: {', '.join(CRITERIA)}.")


def check_there(path: Path, hint: str = "") -> None:
    """Refuse a file or folder that does not exist.

    Raises:
        FileFormatError: with what to give instead, where that is said.
    """
    if not path.exists() and ":" not in str(path):
        raise FileFormatError(f"{path} does not exist{': ' + hint if hint else ''}.")


def check_run(folder: Path) -> None:
    """Refuse a folder that is no run.

    Raises:
        FileFormatError: with the reason.
    """
    if (folder / "config.json").is_file():
        return
    reasons = {"it holds no config.json": folder.is_dir(), "it is a file": folder.is_file()}
    reason = next((reason for reason, holds in reasons.items() if holds), "there is no such folder")
    raise FileFormatError(f"{folder} is not a run: {reason}.")


def is_onnx(path: Path | str) -> bool:
    """Whether a file is an ONNX file, by its name."""
    return Path(path).suffix.lower() == ".onnx"
