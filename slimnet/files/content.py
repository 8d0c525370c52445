"""JSON and tensors: written whole or not at all, the same bytes for the same content, and read with one clear line on failure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet._json import check, decode, encode, read_text
from slimnet.errors import FileFormatError
from slimnet.files.writing import atomic_file, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fn": "F8_E4M3",
    "int16": "I16",
    "uint16": "U16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "uint32": "U32",
    "float32": "F32",
    "complex64": "C64",
    "float64": "F64",
    "int64": "I64",
    "uint64": "U64",
}
"""torch's names and those of safetensors, in the order in which tensors lie in a file from its end."""


def write_json(path: Path, value: Mapping[str, Any], *, parents: bool = False) -> None:
    """Write ``value`` as indented JSON with a final newline."""
    write_bytes(path, json_bytes(value), parents=parents)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """What :func:`write_json` writes."""
    return (encode(value, indent=2) + "\n").encode()


def read_json(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        kind: the schema that it is held against (:mod:`slimnet._json`); None takes any object.

    Raises:
        FileFormatError: if the file is missing, is not JSON, breaks a bound, is not an object, or not as its schema says.
    """
    value = decode(read_text(path), str(path))
    if not isinstance(value, dict):
        raise FileFormatError(f"{path} does not hold a JSON object.")
    if kind is not None:
        check(value, kind, str(path))
    return value


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None, parents: bool = False
) -> None:
    """Write tensors as safetensors, shared storage once for each name: the same tensors and metadata give the same bytes.

    The library's own writer puts metadata in random order, leaves temporary files of its own behind when it is killed, and lets
    the owner alone read the file.

    Args:
        path: the file.
        tensors: of any layout, on any device.
        metadata: for the file's header.
        parents: make the folders that are missing.

    Raises:
        FileFormatError: if a tensor is of a type that the format does not have; nothing is written.
        WriteError: if the system refuses.
    """
    import torch

    ordered, header = _header(path, tensors, metadata)
    with atomic_file(path, parents=parents) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in ordered:
            file.write(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _header(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None) -> tuple[list[str], bytes]:
    """The order of tensors in a file, largest elements first so that all are aligned; and its header."""
    dtypes = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
    for name, dtype in dtypes.items():
        if dtype not in _DTYPES:
            raise FileFormatError(f"{path} cannot be written: {name} is of type {dtype}, which safetensors does not have.")
    rank = {dtype: -place for place, dtype in enumerate(_DTYPES)}
    ordered = sorted(tensors, key=lambda name: (rank[dtypes[name]], name))
    content: dict[str, Any] = {"__metadata__": dict(sorted((metadata or {}).items()))}
    end = 0
    for name in ordered:
        start, end = end, end + tensors[name].numel() * tensors[name].element_size()
        content[name] = {"dtype": _DTYPES[dtypes[name]], "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    header = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return ordered, header.ljust(-(-len(header) // 8) * 8)


def read_metadata(path: Path) -> dict[str, str]:
    """What the header of a safetensors file, which :func:`read_tensors` reads, holds beside the tensors."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return file.metadata() or {}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        FileFormatError: if the file is missing, truncated, or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileFormatError(f"{path} does not exist.")
    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(f"{path} is not a readable safetensors file ({error}): it may be truncated.") from None
