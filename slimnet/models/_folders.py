"""The file of weights in a folder: of a run, of ``accelerate``, of ``transformers``; whole, or in shards that an index names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from slimnet.errors import FileFormatError
from slimnet.files import read_json
from slimnet.files.untrusted import holds, member
from slimnet.models._layouts import StateDict, few

INDEX = ".index.json"
NAMES = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
"""What a folder is looked through for, in this order."""
_OTHERS = {
    "slim.safetensors": "is a slim network, smaller than the one that it was cut from: give the run or the weights of that",
    "model.json": "is a bundle, whose networks are cut: give the run or the weights that it was made of",
    ".metadata": "is a distributed checkpoint of torch: join it first, "
    "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE",
    "zero_to_fp32.py": "is a checkpoint of DeepSpeed: join it first, python zero_to_fp32.py FOLDER FILE",
    "checkpoint.safetensors": "is a run that did not finish: resume it with --resume",
}


def weights_file(path: Path) -> Path:
    """The file of weights, or the index of its shards, that a path leads to: a file leads to itself.

    Raises:
        FileFormatError: if a folder holds none, saying what it is instead.
    """
    if not path.is_dir():
        return path
    for name in ("slim.safetensors", "model.json"):
        if holds(path, name):
            raise FileFormatError(f"{path} {_OTHERS[name]}.")
    for name in NAMES:
        if holds(path, name):
            return member(path, name)
    for name, reason in _OTHERS.items():
        if holds(path, name):
            raise FileFormatError(f"{path} {reason}.")
    raise FileFormatError(f"{path} holds no weights: neither {few(NAMES[:3])}. Name the file in it.")


def is_index(path: Path) -> bool:
    """Whether a file names shards."""
    return path.name.endswith(INDEX)


def read_shards(index: Path, read: Callable[[Path], Sequence[StateDict]]) -> dict[str, Tensor]:
    """The tensors of all shards that an index names; each lies beside it.

    Raises:
        FileFormatError: if the index is none, names a file elsewhere, or a shard is missing, corrupt or lacks tensors.
    """
    if not index.is_file():
        raise FileFormatError(f"{index} does not exist.")
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise FileFormatError(f"{index} is no index of shards: its weight_map does not say which file has which tensor.")
    found: dict[str, Tensor] = {}
    for name in sorted(set(shards.values())):
        found |= read(member(index.parent, name))[0].tensors
    missing = [name for name in shards if name not in found]
    if missing:
        raise FileFormatError(f"{index} names tensors that its shards lack: {few(missing)}.")
    return found
