"""A file of weights takes about as much memory as it is long, whatever it says of itself."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from slimnet.errors import FileFormatError

MOST = 10
"""Times the length of the file: what it may unfold to. torch does not compress; who packs such a file anew gains little."""
_BYTES = b"bytearray"  # of what a pickle may hold without running code, the one thing that takes memory at a word


def check_archive(path: Path) -> None:
    """Refuse a file for ``torch.load`` that unfolds to far more than it is long, without reading it.

    Raises:
        FileFormatError: if so, or if it cannot be read.
    """
    try:
        if _begins(path, b"PK\x03\x04"):  # as torch tells them apart
            with zipfile.ZipFile(path) as archive:
                _check_size(path, sum(entry.file_size for entry in archive.infolist()), "unfolds to")
                held = any(_BYTES in archive.read(name) for name in archive.namelist() if name.endswith(".pkl"))
        else:  # from before torch 1.6: pickles, then the values
            held = _holds(path, _BYTES)
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):  # of a damaged archive
        raise FileFormatError(f"{path} is not a readable file of weights: it may be corrupt or truncated.") from None
    if held:
        raise FileFormatError(f"{path} is not a plain state dict: it holds a bytearray.")


def check_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are far larger than the file, and those that are sparse or hold no values.

    Raises:
        FileFormatError: if there is one.
    """
    for name, tensor in tensors.items():
        if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.is_quantized:
            raise FileFormatError(f"{path} is not a plain state dict: {name} is sparse, quantised or of a kind of its own.")
        if tensor.device.type != "cpu":
            raise FileFormatError(f"{path} is not a plain state dict: {name} holds no values.")
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()}
    shown = sum(tensor.nbytes for tensor in tensors.values())  # more than they store, where they repeat their values
    _check_size(path, max(shown, sum(storages.values())), "holds tensors of")


def _check_size(path: Path, found: int, what: str) -> None:
    size = path.stat().st_size
    if found > MOST * size:
        raise FileFormatError(f"{path} {what} {found:,} bytes and is {size:,} long: it is no honest file of weights.")


def _begins(path: Path, text: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(text)) == text


def _holds(path: Path, text: bytes) -> bool:
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text) >= 0
