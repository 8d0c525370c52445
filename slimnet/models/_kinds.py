"""What a file is, by its first bytes: its name may say anything."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from slimnet.errors import FileFormatError

Kind = Literal["safetensors", "torch"]
_HEAD = 512
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a pointer of git-lfs, not the file itself: fetch it with `git lfs pull`"),
    (b"\x1f\x8b", "is packed (gzip): unpack it first"),
    (b"BZh", "is packed (bzip2): unpack it first"),
    (b"\xfd7zXZ", "is packed (xz): unpack it first"),
    (b"(\xb5/\xfd", "is packed (zstd): unpack it first"),
    (b"7z\xbc\xaf", "is packed (7z): unpack it first"),
    (b"Rar!", "is packed (rar): unpack it first"),
    (b"\x89HDF", "is an HDF5 file (Keras): it holds no weights of PyTorch"),
    (b"GGUF", "is a GGUF file: it holds no weights of PyTorch"),
    (b"\x93NUMPY", "is an array of NumPy: it holds no state dict"),
    (b"\x04\x00\x00\x00\x01\x00\x00\x00", "is a file of Lua Torch 7: convert it first"),
    (b"\x03\x00\x00\x00\x01\x00\x00\x00", "is a file of Lua Torch 7: convert it first"),
)
_ONNX_NEXT = (0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42)


def kind_of_file(path: Path) -> Kind:
    """What reads a file.

    Raises:
        FileFormatError: if it is missing, empty, or something else than weights, which the message names.
    """
    if not path.is_file():
        raise FileFormatError(f"{path} does not exist.")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read ({error.strerror}).") from None
    if not head:
        raise FileFormatError(f"{path} is empty: it is no readable file of weights, fetch or save it again.")
    reason = _other(path, head) or (_in_archive(path) if head.startswith(b"PK\x03\x04") else "")
    if reason:
        raise FileFormatError(f"{path} {reason}.")
    has_header = head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size
    is_zip_or_pickle = head.startswith((b"PK\x03\x04", b"\x80"))
    return "safetensors" if has_header or (path.suffix == ".safetensors" and not is_zip_or_pickle) else "torch"


def _is_onnx(head: bytes) -> bool:
    """A protobuf whose first field is a small number, the version of the format, and a field of ONNX's next."""
    return len(head) > 2 and head[0] == 0x08 and 0 < head[1] < 32 and head[2] in _ONNX_NEXT


def _other(path: Path, head: bytes) -> str:
    for start, reason in _OTHERS:
        if head.startswith(start):
            return reason
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a page of the web (HTML) saved in place of the file: fetch the file itself"
    if path.suffix == ".onnx" or _is_onnx(head):
        return "is an ONNX file, not a file of weights: give the checkpoint that it was exported from"
    if head[257:262] == b"ustar":
        return "is a tar archive of files: unpack it, and give the file of weights in it"
    return ""


def _in_archive(path: Path) -> str:
    """What a zip is that is not torch's; empty where it is, or cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        return ""
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return (
            "is a TorchScript archive, a program: save its weights, torch.save(torch.jit.load(FILE).state_dict(), NEW), "
            "where you trust it"
        )
    if names and all(name.endswith(".npy") for name in names):
        return "is an archive of NumPy arrays (.npz): it holds no state dict"
    if any("exported_program" in name or name.startswith("models/") for name in names):
        return "is a program of torch.export (.pt2): save the state dict of its model"
    return "" if "data.pkl" in names else "is a zip without weights of torch: unpack it first"
