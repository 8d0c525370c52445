"""The accounting of the papers: what their formula claims, which no surgery need realise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from slimnet.errors import ArgumentError


@dataclass(frozen=True)
class LayerCost:
    """One layer as the papers' formula sees it.

    Attributes:
        name: the layer.
        flops: its dense multiply-adds for one image.
        out: its output channels.
        out_live: how many of them are charged; a fraction is allowed (16 · 0.6 = 9.6 reproduces the published
            figures).
        in_: its input channels.
        in_live: how many of them are charged.
    """

    name: str
    flops: int
    out: int
    out_live: float
    in_: int
    in_live: float

    @property
    def live_flops(self) -> float:
        """Multiply-adds between live channels only."""
        return self.flops * (self.out_live / self.out) * (self.in_live / self.in_)


@dataclass(frozen=True)
class PaperCost:
    """Multiply-adds by the papers' formula.

    Attributes:
        dense: before pruning.
        live: after it, as the formula has it.
        saved: the share that is gone, in [0, 1].
    """

    dense: int
    live: float
    saved: float

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)


def paper_flops(layers: Iterable[LayerCost]) -> PaperCost:
    r"""Charge every layer for its live outputs times its live inputs.

    .. math:: \sum_l F_l \, \frac{o_l^{live}}{o_l} \, \frac{i_l^{live}}{i_l}

    The published figures of residual networks (54.0 % for ResNet-20 at θ = 0.4 …) follow when the stem and
    every convolution keep the exact fraction 1 − θ of their outputs, ``conv_b`` reads 1 − θ of its inputs,
    and ``conv_a`` reads the full stream, except in the very first block, where it reads the pruned stem; the
    classifier stays dense. That
    assumes that dead rows of a residual sum are skipped and live ones scattered back: call it *paper
        accounting*, and
    report the realised FLOPs beside it.

    Args:
        layers: the counted layers of a network.

    Returns:
        The dense and live sums, and the share saved.

    Raises:
        ArgumentError: if a layer has no channels, more live channels than channels, or there is nothing to
            sum.

    References:
        Gkalelis & Mezaris, *Fractional Step Discriminant Pruning*, ICMEW 2020; He et al., *FPGM*, CVPR 2019.
    """
    layers = tuple(layers)
    for layer in layers:
        if not (0 <= layer.out_live <= layer.out and 0 <= layer.in_live <= layer.in_ and layer.out and layer.in_):
            raise ArgumentError(f"`{layer.name}` has more live channels than channels, or none: {layer}.")
    dense = sum(layer.flops for layer in layers)
    if dense <= 0:
        raise ArgumentError("`layers` holds no operations: give the counted layers of a network.")
    live = sum(layer.live_flops for layer in layers)
    return PaperCost(dense=dense, live=live, saved=1 - live / dense)
