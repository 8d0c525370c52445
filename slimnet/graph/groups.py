"""Channel groups: the dimensions of several layers that must shrink together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Couple = Literal["stream", "none"]


@dataclass(frozen=True, eq=False)
class Rows:
    """The entries along one dimension of a parameter or buffer that belong to the channels of a group.

    Attributes:
        name: full name of the parameter or buffer, e.g. ``"layer1.0.conv1.weight"``.
        dim: the dimension of that tensor which the indices address.
        index: (channels, k) int64; row ``c`` holds the ``k`` entries of channel ``c``. ``k`` is 1 for a convolution or
            norm, the map's H·W for a linear layer behind a flatten.
    """

    name: str
    dim: int
    index: Tensor

    @property
    def module(self) -> str:
        """Full name of the module that owns the tensor."""
        return self.name.rpartition(".")[0]

    def flat(self) -> Tensor:
        """All indices, channel by channel: (channels · k,) int64."""
        return self.index.reshape(-1)


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that live in several layers and can only be removed from all of them at once.

    Attributes:
        name: the first layer that makes the channels; unique among the groups of a model.
        size: number of channels.
        filters: rows of convolution and linear weights and biases that make the channels (dim 0 of ``weight``, ``bias``).
        norms: entries of ``weight``, ``bias``, ``running_mean``, ``running_var`` of the norms on the way.
        inputs: columns (dim 1) of the weights that read the channels.
        pinned: why these channels may not be removed ("" where they may), e.g. "output of the network".
    """

    name: str
    size: int
    filters: tuple[Rows, ...] = ()
    norms: tuple[Rows, ...] = ()
    inputs: tuple[Rows, ...] = ()
    pinned: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def weights(self) -> tuple[Rows, ...]:
        """The members of ``filters`` that are weights, not biases."""
        return tuple(rows for rows in self.filters if not rows.name.endswith("bias"))

    @property
    def is_stream(self) -> bool:
        """Whether more than one layer makes these channels (a residual stream)."""
        return len(self.weights) > 1

    def vector(self, per_channel: Tensor, rows: Rows, length: int, fill: float = 1.0) -> Tensor:
        """Scatter one value a channel into a vector along the dimension of ``rows``.

        Args:
            per_channel: (size,) values.
            rows: a member of this group.
            length: size of the tensor's dimension ``rows.dim``.
            fill: value of the entries that do not belong to the group.

        Returns:
            (length,) tensor of the dtype and device of ``per_channel``.
        """
        out = torch.full((length,), fill, dtype=per_channel.dtype, device=per_channel.device)
        out[rows.flat().to(out.device)] = per_channel.repeat_interleave(rows.index.shape[1])
        return out


def prunable(groups: Iterable[ChannelGroup]) -> tuple[ChannelGroup, ...]:
    """The groups whose channels may be masked: not pinned, and made by at least one layer."""
    return tuple(group for group in groups if not group.pinned and group.weights)
