"""The layers of a network as places on a map: what each reads and makes, and from which channel groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from slimnet.graph import ChannelGroup, ExampleInputs, as_inputs, in_eval_mode, prunable
from slimnet.graph.groups import Rows
from slimnet.measure.costs import Site

Part = tuple[str, int, int]
"""A group's name, its size, and how many entries of the layer belong to each of its channels."""

_Layer = nn.modules.conv._ConvNd | nn.Linear


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer.

    Attributes:
        name: of the module.
        sites: where it stands, once for each time that it runs in one pass, on maps of whatever size; none of what the cost table
            does not know: grouped, transposed, 1-D and 3-D convolutions, linear layers on more than one row an image.
        reads: channels that it reads now.
        makes: channels that it makes now.
        read_from: the groups that may shrink among its input channels.
        made_for: likewise among its output channels.
        positions: places of its output maps, over all calls, for one image; of a transposed convolution, of its input maps.
        weights: entries of its weight.
    """

    name: str
    sites: tuple[Site, ...]
    reads: int
    makes: int
    read_from: tuple[Part, ...]
    made_for: tuple[Part, ...]
    positions: int
    weights: int

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
        share = 1.0 if self.is_depthwise else reads / self.reads
        return round(self.weights * share * makes / self.makes)

    def flops(self, kept: Mapping[str, int]) -> int:
        """Multiply-adds left, for one image."""
        return self.positions * self.params(kept)

    @property
    def is_depthwise(self) -> bool:
        """Whether it has one filter a channel."""
        return self.kind == "depthwise"

    @property
    def kind(self) -> str:
        """Of its sites; empty where there are none."""
        return self.sites[0].kind if self.sites else ""


def _width(size: int, parts: Iterable[Part], kept: Mapping[str, int]) -> int:
    return size - sum((whole - kept.get(group, whole)) * entries for group, whole, entries in parts)


def network_layers(model: nn.Module, example: ExampleInputs, groups: Iterable[ChannelGroup]) -> tuple[Layer, ...]:
    """The convolutions and linear layers of a network, in the order in which they first run.

    Args:
        model: the network; left as it was.
        example: images (N, C, H, W), or a tensor for each of several inputs.
        groups: its channel groups.
    """
    seen: dict[str, _Seen] = {}

    def note(name: str) -> Any:
        def hook(module: _Layer, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
            seen.setdefault(name, _Seen()).add(module, inputs[0] if inputs else named["input"], output)

        return hook

    modules = {name: module for name, module in model.named_modules() if isinstance(module, _Layer)}
    handles = [module.register_forward_hook(note(name), with_kwargs=True) for name, module in modules.items()]
    try:
        with torch.no_grad(), in_eval_mode(model):
            model(*(x[:1] for x in as_inputs(example)))
    finally:
        for handle in handles:
            handle.remove()
    read, made = _parts(groups)
    return tuple(_layer(name, modules[name], found, read, made) for name, found in seen.items())


@dataclass
class _Seen:
    """What one pass of one image showed of a layer."""

    sizes: list[tuple[int, ...]] = field(default_factory=list)
    positions: int = 0

    def add(self, module: _Layer, images: Tensor, output: Tensor) -> None:
        self.sizes.append(tuple(images.shape[2:]) if images.dim() == 4 else tuple(images.shape[1:-1]))
        reads, makes = _channels(module)
        is_transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)  # one that spreads each place that it reads
        self.positions += images.numel() // reads if is_transposed else output.numel() // makes


def _parts(groups: Iterable[ChannelGroup]) -> tuple[dict[str, list[Part]], dict[str, list[Part]]]:
    """By the weight's name: the groups that may shrink among its columns, and among its rows."""
    read: dict[str, list[Part]] = defaultdict(list)
    made: dict[str, list[Part]] = defaultdict(list)
    for group in prunable(groups):
        for rows in group.inputs:
            read[rows.name].append(_part(group, rows))
        for rows in (*group.weights, *group.others):
            made[rows.name].append(_part(group, rows))
    return read, made


def _part(group: ChannelGroup, rows: Rows) -> Part:
    return group.name, group.size, rows.index.shape[1]


def _channels(module: _Layer) -> tuple[int, int]:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return module.in_channels, module.out_channels


def _layer(name: str, module: _Layer, seen: _Seen, read: Mapping[str, list[Part]], made: Mapping[str, list[Part]]) -> Layer:
    weight = f"{name}.weight"
    reads, makes = (tuple(parts.get(weight, ())) for parts in (read, made))
    found = [_site(module, size) for size in seen.sizes]
    sites = tuple(site for site in found if site is not None) if None not in found else ()
    if sites and sites[0].kind == "depthwise":
        reads = makes
    return Layer(name, sites, *_channels(module), reads, makes, seen.positions, module.weight.numel())


def _site(module: _Layer, size: tuple[int, ...]) -> Site | None:
    if isinstance(module, nn.Linear):
        return None if size else Site("linear")
    depthwise = module.groups > 1 and module.groups == module.in_channels == module.out_channels
    if not isinstance(module, nn.Conv2d) or not (module.groups == 1 or depthwise):
        return None
    padding = module.padding
    if isinstance(padding, str):  # "same" has as much on either side only for odd extents
        extents = [step * (side - 1) for step, side in zip(module.dilation, module.kernel_size, strict=True)]
        if padding != "valid" and any(extent % 2 for extent in extents):
            return None
        padding = tuple(0 if padding == "valid" else extent // 2 for extent in extents)
    pairs = module.kernel_size, module.stride, padding, module.dilation
    return Site("depthwise" if depthwise else "conv", (size[0], size[1]), *((int(pair[0]), int(pair[1])) for pair in pairs))


class LiveFlops:
    """Counts the multiply-adds of convolutions and linear layers whose input and output channels are both live.

    This is what training shows while it runs. The figure to report is what :func:`slimnet.count` finds in the slim model.
    """

    def __init__(self, model: nn.Module, groups: Iterable[ChannelGroup], example: ExampleInputs) -> None:
        self._groups = {group.name: group for group in groups}
        layers = network_layers(model, example, self._groups.values())
        self._dense = {f"{layer.name}.weight": float(layer.flops({})) for layer in layers}
        self._shapes = {name: tuple(model.get_parameter(name).shape[:2]) for name in self._dense}

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
            for rows in (*group.filters, *group.others, *group.inputs):
                index = rows.index[mask.to(rows.index.device)].reshape(-1)
                gone.setdefault((rows.name, rows.dim), set()).update(index.tolist())
        return sum(flops * self._share(name, gone) for name, flops in self._dense.items())

    def _share(self, name: str, gone: Mapping[tuple[str, int], set[int]]) -> float:
        share = 1.0
        for dim, size in enumerate(self._shapes[name]):
            share *= 1.0 - len(gone.get((name, dim), ())) / size
        return share
