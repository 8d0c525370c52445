"""Checkpoints: ``checkpoint.safetensors`` holds all of a run's state; ``checkpoint.json`` says the same
values in the open.

One file is the truth, so one rename makes a checkpoint: the values travel in the header of the tensor file,
with a checksum
of the tensors. A process killed at any moment leaves the previous checkpoint or the new one, and at worst a
``checkpoint.json`` that is one checkpoint old, which nobody reads back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slimnet._json import check, decode, encode
from slimnet.errors import FileFormatError
from slimnet.files import read_json, read_metadata, read_tensors, write_json, write_tensors
from slimnet.files.checksum import checksum
from slimnet.files.untrusted import holds, member
from slimnet.training.state import State

TENSORS, VALUES = "checkpoint.safetensors", "checkpoint.json"
_FORMAT = "slimnet-checkpoint/1"


def save_checkpoint(folder: Path, state: State) -> None:
    """Write the checkpoint of a run, replacing the one before."""
    tensors, values = state.tensors(), {"format": _FORMAT, **state.values()}
    values["checksum"] = checksum(tensors)
    text = encode(values, ascii_only=True)
    write_tensors(folder / TENSORS, tensors, metadata={"state": text})
    write_json(folder / VALUES, values)


def load_checkpoint(folder: Path, state: State) -> None:
    """Bring ``state`` to where the checkpoint in ``folder`` left it, in place.

    Raises:
        FileFormatError: if the checkpoint is missing, truncated, corrupt, or of another run.
    """
    path = folder / TENSORS
    try:
        tensors = read_tensors(member(folder, TENSORS))
        values = _values(path)
        if checksum(tensors) != values.get("checksum"):
            raise FileFormatError(f"{path} is corrupt: its checksum does not match.")
        _check_companion(folder)
        state.load(tensors, values)
    except FileFormatError as error:
        text = str(error).rstrip(".")
        named = text if str(folder) in text else f"{path}: {text}"
        raise FileFormatError(f"{named}. The run cannot be resumed: start it again with --force.") from None


def _values(path: Path) -> dict[str, Any]:
    text = read_metadata(path).get("state", "")
    if not text:
        raise FileFormatError(f"{path} is not a checkpoint: its header holds no state.")
    values = decode(text, f"the header of {path}")
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise FileFormatError(f"{path} is not a checkpoint of this format ({_FORMAT}).")
    check(values, "checkpoint", f"the header of {path}")
    return values


def _check_companion(folder: Path) -> None:
    """A ``checkpoint.json`` that cannot be read is a sign of a damaged disk: do not go on in silence."""
    if holds(folder, VALUES):
        read_json(member(folder, VALUES))
