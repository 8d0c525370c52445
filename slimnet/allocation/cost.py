"""What a network costs at given widths: the layers from the cost table, the rest from one look at the dense network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import nn

from slimnet.allocation.layers import Layer, network_layers
from slimnet.errors import ModelError
from slimnet.export import export_onnx
from slimnet.files import scratch_folder
from slimnet.graph import ChannelGroup, ExampleInputs, as_inputs
from slimnet.measure.costs import CostTable, NodeTimes, Site
from slimnet.measure.costs.grid import Span
from slimnet.measure.costs.table import WIDTH, Place
from slimnet.onnx.flops import linear_reads

LAYER_OPS = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ReorderInput", "ReorderOutput")
FLOAT = 4
INNER_CACHE = 2**20
"""Bytes of weights that stay near the processor when a layer alone is run again and again; more never do."""
LOAD_RATE = 6e3
"""Bytes a microsecond: so slowly weights may come from the outer cache, at most."""


@runtime_checkable
class WritesItself(Protocol):
    """A network that was read from an ONNX file, which is timed as it is."""

    def write_original(self, path: Path) -> None:
        """Write the file."""


class NetworkCost:
    """Predicts how long a network takes when its groups keep so many channels.

    .. math:: t(w) = t_{run} + t_{rest} \\frac{\\sum_l a_l m_l(w)}{\\sum_l a_l m_l} + t_{load} \\frac{b(w)}{b}
                     + f \\sum_l T_l(r_l(w), m_l(w))

    T_l is the cost table's time of layer l for the channels that it reads, r_l, and makes, m_l; a_l the area of its map; b the
    bytes of all weights that the inner cache holds when a layer runs again and again, as in the table, but not when the others
    run in between. From one profile of the dense network come t_run, what a run costs beside its nodes; t_rest, the nodes that
    are no layers (pools, additions); t_load, what its layers take longer than in the table, as far as loading b can take that
    long; and f, by which they differ beyond that (fused additions, a machine that is faster or slower now).

    Attributes:
        layers: of the network.
        factor: f.
        load: t_load, in microseconds.
        dense_ms: the dense network, as predicted; measured when it was profiled.
    """

    def __init__(self, layers: Sequence[Layer], table: CostTable, profile: NodeTimes, beside: float) -> None:
        self.layers = tuple(layers)
        self._table = table
        self._memo: dict[tuple[Site, int, int], float] = {}
        inside = profile.total(*LAYER_OPS)
        self._rest, self._run = profile.total() - inside, beside
        known = sum(self._alone(layer, layer.reads, layer.makes) for layer in self.layers)
        self._loaded = sum(_loads(layer, {}) for layer in self.layers)
        self._maps = sum(layer.positions * layer.makes for layer in self.layers)
        if not known:
            raise ModelError("the network has no convolution or linear layer whose cost could be measured.")
        self.load = min(max(inside - known, 0.0), self._loaded / LOAD_RATE)
        self.factor = (inside - self.load) / known
        self.dense_ms = self.milliseconds({})

    @classmethod
    def measure(
        cls,
        model: nn.Module,
        example: ExampleInputs,
        groups: Iterable[ChannelGroup],
        table: CostTable,
    ) -> NetworkCost:
        """Profile the dense network once, and measure what the table lacks for it.

        Args:
            model: the network; left as it was.
            example: images (N, C, H, W), or a tensor for each of several inputs; N at least 2.
            groups: its channel groups.
            table: of the target.

        Raises:
            ArgumentError: if it is a file of a fixed batch, and the target is for another.
            ExportError: if the network cannot be exported.
            MeasureError: if a layer does not run on the target.
        """
        with scratch_folder("cost") as folder:
            path = folder / "dense.onnx"
            if isinstance(model, WritesItself):
                model.write_original(path)
            else:
                export_onnx(model, example, path)
            layers = as_exported(network_layers(model, example, groups), linear_reads(path))
            profile, beside = table.timer.network(path, [value.shape[1:] for value in as_inputs(example)])
            table.measure(places(layers))
        return cls(layers, table, profile, beside)

    @property
    def unknown(self) -> tuple[float, str]:
        """The share of the multiply-adds that is in layers whose time the table does not know, and the first of these layers."""
        strangers = [layer for layer in self.layers if not layer.sites]
        share = sum(layer.flops({}) for layer in strangers) / max(self.flops({}), 1)
        return share, strangers[0].name if strangers else ""

    @property
    def branches(self) -> tuple[str, ...]:
        """Groups whose loss shuts a residual branch, see :func:`branches_of`."""
        return branches_of(self.layers)

    def milliseconds(self, kept: Mapping[str, int]) -> float:
        """Predicted time of a batch when groups keep so many channels; groups that are not named keep all."""
        return self._run / 1e3 + sum(self.layer_milliseconds(layer, kept) for layer in self.layers)

    def layer_milliseconds(self, layer: Layer, kept: Mapping[str, int]) -> float:
        """A layer's part of the predicted time, of which only what a run costs beside its nodes is left out.

        Args:
            layer: one of :attr:`layers`.
            kept: group name → channels; only the groups of the layer matter.
        """
        reads, makes = layer.widths(kept)
        if not reads:
            return 0.0  # surgery shuts the branch: the layer, and the addition behind it
        rest = self._rest * layer.positions * makes / self._maps
        load = self.load * _loads(layer, kept) / self._loaded if self._loaded else 0.0
        return (rest + load + self.factor * self._alone(layer, reads, makes)) / 1e3

    def flops(self, kept: Mapping[str, int]) -> int:
        """Multiply-adds of the layers, for one image."""
        return sum(layer.flops(kept) for layer in self.layers)

    def params(self, kept: Mapping[str, int]) -> int:
        """Weights of the layers."""
        return sum(layer.params(kept) for layer in self.layers)

    def _alone(self, layer: Layer, reads: int, makes: int) -> float:
        """Microseconds of all runs of a layer in one pass, as the table has them; 0 of what it does not know."""
        return sum(self._time(site, reads, makes) for site in layer.sites)

    def _time(self, site: Site, reads: int, makes: int) -> float:
        key = (site, reads, makes)
        if key not in self._memo:
            self._memo[key] = self._table.microseconds(*key)
        return self._memo[key]


def _loads(layer: Layer, kept: Mapping[str, int]) -> int:
    """Bytes of the weights of a layer that have to be loaded anew for each run."""
    size = FLOAT * layer.params(kept)
    return size if size <= INNER_CACHE else 0


def branches_of(layers: Iterable[Layer]) -> tuple[str, ...]:
    """Groups inside a residual branch: whoever reads one reads nothing else, and adds to a stream that was begun before.

    Without its channels the branch is constant, and surgery shuts it. Branches where a stream begins are left alone: no other way
    may lead past them.

    Args:
        layers: of the network, in the order in which they run.
    """
    begun: dict[str, str] = {}
    readers = defaultdict(list)
    for layer in layers:
        for group, *_ in layer.made_for:
            begun.setdefault(group, layer.name)
        for group, *_ in layer.read_from:
            readers[group].append(layer)
    return tuple(group for group, found in readers.items() if all(_adds(layer, begun) for layer in found))


def _adds(layer: Layer, begun: Mapping[str, str]) -> bool:
    """Whether a layer reads a single group, whole, and adds only to what others have begun."""
    whole = len(layer.read_from) == 1 and layer.widths({layer.read_from[0][0]: 0})[0] == 0
    return whole and bool(layer.made_for) and all(begun[group] != layer.name for group, *_ in layer.made_for)


def as_exported(layers: Sequence[Layer], reads: Sequence[int]) -> tuple[Layer, ...]:
    """The layers, with linear ones that read less in the exported graph (each number once) as they are there.

    Args:
        layers: of the network.
        reads: features that the linear layers of the graph read, in order; ignored where there are more or fewer of them.
    """
    linear = [layer.name for layer in layers if layer.kind == "linear"]
    found = dict(zip(linear, reads, strict=True)) if len(linear) == len(reads) else {}
    return tuple(_reading(layer, found.get(layer.name, layer.reads)) for layer in layers)


def _reading(layer: Layer, reads: int) -> Layer:
    if reads == layer.reads or any(entries * reads % layer.reads for *_, entries in layer.read_from):
        return layer
    parts = tuple((group, size, entries * reads // layer.reads) for group, size, entries in layer.read_from)
    return replace(layer, reads=reads, read_from=parts)


def places(layers: Iterable[Layer]) -> list[Place]:
    """Every place once, with the widest layer there; layers with a fixed end stand for themselves."""
    found: dict[tuple[Site, int, int], Place] = {}
    for layer, site in ((each, site) for each in layers for site in dict.fromkeys(each.sites)):
        reads, makes = Span(layer.reads, not layer.read_from), Span(layer.makes, not layer.made_for)
        key = (site, reads.most if reads.fixed else 0, makes.most if makes.fixed else 0)
        _, first, second = found.get(key, (None, reads, makes))
        found[key] = (site, max(first, reads, key=WIDTH), max(second, makes, key=WIDTH))
    return list(found.values())
