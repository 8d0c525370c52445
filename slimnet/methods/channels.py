"""Which channels and branches a soft filter method is told to keep or to close, by name and by number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slimnet.errors import ArgumentError
from slimnet.fields import Rule, is_text, is_whole
from slimnet.graph.groups import ChannelGroup

MOST = 1 << 31  # channels of a group
_HEX = re.compile("(?:[0-9a-f]{2})*")


def _is_width(pair: Any) -> bool:
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2
    return is_pair and isinstance(pair[0], str) and is_whole(pair[1]) and 0 <= pair[1] < MOST


WIDTHS = Rule(
    "(group, channels) pairs, with a whole number of at least 0",
    lambda pairs: isinstance(pairs, list | tuple) and all(map(_is_width, pairs)),
)


def _is_closed(pair: Any) -> bool:
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2 and all(map(is_text, pair))
    return is_pair and bool(_HEX.fullmatch(pair[1]))


CLOSED = Rule(
    "(group, bits in hexadecimal) pairs",
    lambda pairs: isinstance(pairs, list | tuple) and all(map(_is_closed, pairs)),
)
BRANCHES = Rule(
    "different names of residual branches",
    lambda names: isinstance(names, list | tuple) and all(map(is_text, names)) and len(set(names)) == len(names),
)


def to_bits(closed: Tensor) -> str:
    """(size,) bool as hexadecimal digits, eight channels to two of them.

    Example:
        >>> to_bits(torch.tensor([True, False, True]))
        'a0'
    """
    return np.packbits(closed.cpu().numpy()).tobytes().hex()


def from_bits(name: str, bits: str, size: int) -> Tensor:
    """What :func:`to_bits` wrote, as (size,) bool.

    Raises:
        ArgumentError: if it is of a group of another size.
    """
    found = np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8))
    if not 0 <= len(found) - size < 8 or found[size:].any():
        raise ArgumentError(f"`closed` of {name} does not fit its {size} channels.")
    return torch.from_numpy(found[:size].astype(np.bool_))


def named_branches(names: Sequence[str], groups: Sequence[ChannelGroup]) -> dict[str, ChannelGroup]:
    """The branches of these names, in this order.

    Raises:
        ArgumentError: if a name is no branch.
    """
    known = {group.name: group for group in groups if group.is_branch}
    for name in names:
        if name not in known:
            raise ArgumentError(
                f"`branches` names {name!r}, which is no residual branch; there are: {', '.join(known) or 'none'}."
            )
    return {name: known[name] for name in names}


def narrower(widths: Sequence[tuple[str, int]], groups: Sequence[ChannelGroup]) -> tuple[ChannelGroup, ...]:
    """The groups that are to keep fewer channels than they have.

    Raises:
        ArgumentError: if a name is none of theirs, or a width more than there is.
    """
    wanted, sizes = dict(widths), {group.name: group.size for group in groups}
    for name, width in wanted.items():
        if name not in sizes:
            raise ArgumentError(f"`widths` names {name!r}, which is no group that may be pruned; there are: {', '.join(sizes)}.")
        if width > sizes[name]:
            raise ArgumentError(f"the width of {name} must be from 0 to {sizes[name]}, got {width}.")
    return tuple(group for group in groups if wanted.get(group.name, group.size) < group.size)


def others(size: int, indices: Tensor) -> Tensor:
    """(size,) bool: all channels but those at ``indices``."""
    others = torch.ones(size, dtype=torch.bool)
    others[indices] = False
    return others


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor.cpu() for name, tensor in tensors.items() if name.startswith(prefix)}
