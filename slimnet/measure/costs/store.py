"""Where measured costs are kept: one file a target, checked entry by entry when it is read."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slimnet._json import check, encode
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.files import read_json, write_json
from slimnet.measure.machine import environment

FORMAT = "slimnet-costs/2"
ONNX_RUNTIME = "onnxruntime"
_IDENTITY = ("cpu", "instructions", "system")


def _machine() -> dict[str, Any]:
    return machine_with(ONNX_RUNTIME, None)


def machine_with(runtime: str, version: str | None) -> dict[str, Any]:
    """This machine and what runs networks on it.

    Args:
        runtime: its name.
        version: None: that of ONNX Runtime.
    """
    here = environment()
    return {**{name: here[name] for name in _IDENTITY}, runtime: here[ONNX_RUNTIME] if version is None else version}


@dataclass(frozen=True)
class Target:
    """What a network is made fast for.

    Attributes:
        threads: of a session.
        batch: images a run.
        precision: ``"fp32"``.
        machine: processor, its instruction set, system and version of the runtime; this one's.
        runtime: that runs it.

    Raises:
        ArgumentError: if a number is below 1.
    """

    threads: int = 1
    batch: int = 1
    precision: str = "fp32"
    machine: Mapping[str, Any] = field(default_factory=_machine)
    runtime: str = ONNX_RUNTIME

    def __post_init__(self) -> None:
        for name in ("threads", "batch"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"`{name}` must be at least 1, got {getattr(self, name)}.")

    def as_dict(self) -> dict[str, Any]:
        """JSON values: ONNX Runtime, the first that there was, is named in the machine alone."""
        values = {**asdict(self), "machine": dict(self.machine)}
        if self.runtime == ONNX_RUNTIME:
            del values["runtime"]
        return values

    @property
    def name(self) -> str:
        """A file name, another one for every target."""
        text = encode(self.as_dict(), sort_keys=True, ascii_only=True)
        which = "" if self.runtime == ONNX_RUNTIME else f"{self.runtime}-"
        return f"costs-{which}{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.json"


def default_folder() -> Path | None:
    """The user's cache folder of slimnet; None where there is none."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slimnet"
    except RuntimeError:  # a user without a home
        return None


def read_entries(path: Path, target: Target) -> tuple[dict[str, Any], int]:
    """The entries of a file that are whole and of this target, and how many were not.

    A file that is missing, cannot be read, or is of another target holds nothing.
    """
    if not path.exists():
        return {}, 0
    try:
        content = read_json(path, "costs")
    except FileFormatError:
        return {}, 1
    entries = content["entries"]
    if content["target"] != target.as_dict():
        return {}, len(entries)
    good = {key: entry["value"] for key, entry in entries.items() if _is_whole(key, entry)}
    return good, len(entries) - len(good)


def _is_whole(key: str, entry: Any) -> bool:
    try:
        check(entry, "cost_entry", key)
    except FileFormatError:
        return False
    return bool(entry["crc"] == _crc(key, entry["value"]))


def write_entries(path: Path, target: Target, entries: Mapping[str, Any]) -> None:
    """Write all entries, each with a checksum, and those that another process has written meanwhile."""
    together = {**read_entries(path, target)[0], **entries}
    checked = {key: {"value": value, "crc": _crc(key, value)} for key, value in together.items()}
    write_json(path, {"format": FORMAT, "target": target.as_dict(), "entries": checked}, parents=True)


def _crc(key: str, value: Any) -> str:
    return f"{zlib.crc32(encode([key, value], sort_keys=True, ascii_only=True).encode()):08x}"
