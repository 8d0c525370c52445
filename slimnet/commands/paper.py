"""The papers' accounting of a masked network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def paper_accounting(masked: nn.Module, example: Tensor) -> dict[str, Any]:
    """FLOPs as the papers' formula has them (see :func:`slimnet.measure.paper_flops`), from the zero filters of a network.

    Returns:
        Multiply-adds ``dense`` and ``live``, and the share ``saved``.
    """
    from slimnet.graph import analyse
    from slimnet.measure import LayerCost, count, paper_flops

    flops = count(masked, example).by_module
    layers = []
    for reader in analyse(masked, example).readers:
        weight = masked.get_parameter(reader.weight)
        live_in = 1.0
        if len(reader.sources) == 1:
            source = masked.get_parameter(next(iter(reader.sources)))
            live_in = _live_rows(source) / len(source)
        out, columns = weight.shape[reader.out_dim], weight.shape[reader.in_dim]
        live_out = _live_rows(weight) if reader.out_dim == 0 and weight.dim() > 2 else out
        name = reader.weight.rpartition(".")[0]
        layers.append(LayerCost(name, flops.get(name, 0), out, live_out, columns, columns * live_in))
    return paper_flops(layers).as_dict()


def _live_rows(weight: Tensor) -> int:
    return int((weight.detach() != 0).flatten(1).any(dim=1).sum())
