"""The layers of a network as places on a map: what each reads and makes, and from which channel groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from slimnet.graph import ChannelGroup, in_eval_mode, prunable
from slimnet.graph.groups import Rows
from slimnet.measure.costs import Site

Part = tuple[str, int, int]
"""A group's name, its size, and how many entries of the layer belong to each of its channels."""

_Layer = nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer.

    Attributes:
        name: of the module.
        site: where it stands; None for a grouped convolution, which the cost table does not know.
        reads: channels that it reads now.
        makes: channels that it makes now.
        read_from: the groups that may shrink among its input channels.
        made_for: likewise among its output channels.
        calls: how often it runs in one pass.
        weight_entries: weights behind one pair of channels: the kernel's height × width.
    """

    name: str
    site: Site | None
    reads: int
    makes: int
    read_from: tuple[Part, ...]
    made_for: tuple[Part, ...]
    calls: int
    weight_entries: int

    def widths(self, kept: Mapping[str, int]) -> tuple[int, int]:
        """Channels read and made when groups keep so many; groups that are not named keep all."""
        return _width(self.reads, self.read_from, kept), _width(self.makes, self.made_for, kept)

    @property
    def sides(self) -> tuple[tuple[tuple[Part, ...], int], tuple[tuple[Part, ...], int]]:
        """The groups that it reads and makes, each with the channels that there are now."""
        return (self.read_from, self.reads), (self.made_for, self.makes)

    def params(self, kept: Mapping[str, int]) -> int:
        """Weights left."""
        reads, makes = self.widths(kept)
        return self.weight_entries * (makes if self.is_depthwise else reads * makes)

    def flops(self, kept: Mapping[str, int]) -> int:
        """Multiply-adds left, for one image."""
        height, width = self.site.output_size if self.site else (1, 1)
        return self.calls * height * width * self.params(kept)

    @property
    def is_depthwise(self) -> bool:
        """Whether it has one filter a channel."""
        return self.site is not None and self.site.kind == "depthwise"


def _width(size: int, parts: Iterable[Part], kept: Mapping[str, int]) -> int:
    return size - sum((whole - kept.get(group, whole)) * entries for group, whole, entries in parts)


def network_layers(model: nn.Module, example: Tensor, groups: Iterable[ChannelGroup]) -> tuple[Layer, ...]:
    """The convolutions and linear layers of a network, in the order in which they first run.

    Args:
        model: the network; left as it was.
        example: images (N, C, H, W).
        groups: its channel groups.
    """
    sizes: dict[str, tuple[int, int]] = {}
    calls: dict[str, int] = defaultdict(int)

    def note(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
            shape = inputs[0].shape
            sizes.setdefault(name, (shape[2], shape[3]) if len(shape) == 4 else (1, 1))
            calls[name] += 1

        return hook

    modules = {name: module for name, module in model.named_modules() if isinstance(module, _Layer)}
    handles = [module.register_forward_hook(note(name)) for name, module in modules.items()]
    try:
        with torch.no_grad(), in_eval_mode(model):
            model(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    read, made = _parts(groups)
    return tuple(_layer(name, modules[name], size, calls[name], read, made) for name, size in sizes.items())


def _parts(groups: Iterable[ChannelGroup]) -> tuple[dict[str, list[Part]], dict[str, list[Part]]]:
    """By the weight's name: the groups that may shrink among its columns, and among its rows."""
    read: dict[str, list[Part]] = defaultdict(list)
    made: dict[str, list[Part]] = defaultdict(list)
    for group in prunable(groups):
        for rows in group.inputs:
            read[rows.name].append(_part(group, rows))
        for rows in group.weights:
            made[rows.name].append(_part(group, rows))
    return read, made


def _part(group: ChannelGroup, rows: Rows) -> Part:
    return group.name, group.size, rows.index.shape[1]


def _layer(
    name: str, module: _Layer, size: tuple[int, int], calls: int, read: Mapping[str, list[Part]], made: Mapping[str, list[Part]]
) -> Layer:
    weight = f"{name}.weight"
    reads, makes = (tuple(parts.get(weight, ())) for parts in (read, made))
    if isinstance(module, nn.Linear):
        return Layer(name, Site("linear"), module.in_features, module.out_features, reads, makes, calls, 1)
    entries = module.kernel_size[0] * module.kernel_size[1]
    channels = module.in_channels, module.out_channels
    depthwise = module.groups > 1 and module.groups == channels[0] == channels[1]
    known = (module.groups == 1 or depthwise) and not isinstance(module.padding, str)
    site = None
    if known:
        pairs = module.kernel_size, module.stride, module.padding, module.dilation
        site = Site("depthwise" if depthwise else "conv", size, *((int(pair[0]), int(pair[1])) for pair in pairs))
    return Layer(name, site, *channels, reads if not depthwise else makes, makes, calls, entries)
