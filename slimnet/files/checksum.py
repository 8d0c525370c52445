"""A checksum of tensors: tells of a damaged disk, not of an attacker."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 over names, types, shapes and contents, as 8 hexadecimal digits."""
    import torch

    crc = 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
