"""Multiply-adds of the channels that are not closed: cheap enough for every epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from slimnet.graph.groups import ChannelGroup
from slimnet.graph.modes import in_eval_mode

_Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


class LiveFlops:
    """Counts the multiply-adds of convolutions and linear layers whose input and output channels are both
    live.

    This is what training shows while it runs. The figure to report is what :func:`slimnet.count` finds in the
    slim model.
    """

    def __init__(self, model: nn.Module, groups: Iterable[ChannelGroup], example: Tensor) -> None:
        self._groups = {group.name: group for group in groups}
        self._dense, self._shapes = _dense_flops(model, example)

    @property
    def dense(self) -> float:
        """Multiply-adds of the whole network, for one image."""
        return sum(self._dense.values())

    def live(self, closed: Mapping[str, Tensor]) -> float:
        """Multiply-adds for one image when the channels in ``closed`` are gone.

        Args:
            closed: per group name a (size,) bool tensor, as ``SoftMask.closed()`` gives it.
        """
        gone: dict[tuple[str, int], set[int]] = {}
        for name, mask in closed.items():
            group = self._groups[name]
            if group.is_branch:
                for module in group.inside if bool(mask.all()) else ():
                    rows_of = self._shapes.get(f"{module}.weight", (0, 0))[0]
                    gone.setdefault((f"{module}.weight", 0), set()).update(range(rows_of))
                continue
            for rows in (*group.filters, *group.inputs):
                index = rows.index[mask.to(rows.index.device)].reshape(-1)
                gone.setdefault((rows.name, rows.dim), set()).update(index.tolist())
        return sum(flops * self._share(name, gone) for name, flops in self._dense.items())

    def _share(self, name: str, gone: Mapping[tuple[str, int], set[int]]) -> float:
        share = 1.0
        for dim, size in enumerate(self._shapes[name]):
            share *= 1.0 - len(gone.get((name, dim), ())) / size
        return share


def _dense_flops(model: nn.Module, example: Tensor) -> tuple[dict[str, float], dict[str, tuple[int, int]]]:
    """Multiply-adds for one image and (out, in) channels of each layer, by its weight's name."""
    flops: dict[str, float] = {}
    shapes: dict[str, tuple[int, int]] = {}

    def note(name: str) -> object:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            assert isinstance(module, _Layer)
            weight = module.weight
            places = output[0].numel() / weight.shape[0]
            flops[name] = flops.get(name, 0.0) + places * weight.numel()
            shapes[name] = (weight.shape[0], weight.shape[1])

        return hook

    layers = [(f"{name}.weight", module) for name, module in model.named_modules() if isinstance(module, _Layer)]
    handles = [module.register_forward_hook(note(name)) for name, module in layers]  # type: ignore[arg-type]
    try:
        with torch.no_grad(), in_eval_mode(model):
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return flops, shapes
