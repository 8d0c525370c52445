"""What is found out about a network: which channel each index of a tensor belongs to, what reads it, what is added to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.fx import Node

from slimnet.graph.values import NONE, Labels

Role = Literal["filter", "bias", "norm", "input", "other"]


@runtime_checkable
class MovesChannels(Protocol):
    """A module that moves channels by numbers of its own (say, of padded channels), and can be told which remain."""

    def keep_channels(self, inputs: Tensor, outputs: Tensor) -> None:
        """Adapt in place.

        Args:
            inputs: (C_in,) bool, the channels of the input that remain.
            outputs: (C_out,) bool, the channels of the output that remain.
        """


@dataclass(frozen=True, eq=False)
class Param:
    """A parameter or buffer used by an operator."""

    name: str
    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(self.tensor.shape)


@dataclass(frozen=True, eq=False)
class Entry:
    """Which channel each index along one dimension of a parameter belongs to: ``labels`` is (shape[dim],) int64."""

    name: str
    dim: int
    labels: Tensor
    role: Role


@dataclass(frozen=True, eq=False)
class Reader:
    """An operator that mixes its input channels by a weight.

    Attributes:
        weight: name of the weight.
        bias: name of the bias, "" for none.
        out_dim, in_dim: the dimensions of the weight for output and input channels.
        outputs, inputs: (C_out,), (C_in,) labels.
        used: (C_out, C_in) bool; whether an output row reads an input column with a weight other than zero.
        constants: (C_in,) float64; the value of each input channel, NaN where it is live.
        foldable: whether a constant input channel adds the same amount to every position of the output.
        has_bias: whether there is a bias to add that to, or a layer that takes one.
        sources: the weights whose layers made the input; more than one where it is a sum or a concatenation.
    """

    weight: str
    bias: str
    out_dim: int
    in_dim: int
    outputs: Tensor
    inputs: Tensor
    used: Tensor
    constants: Tensor
    foldable: bool
    has_bias: bool = True
    sources: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Summand:
    """The output of a module that is added to something else, and read by nobody but that addition.

    Attributes:
        module: the module (a convolution, or the norm behind one).
        makers: the modules whose rows make the channels: the convolution, and the norm behind it.
        labels, constants: (C,) of the output.
        dims: dimensions of the output (4 for images).
        shuts: modules that serve this output alone; where it is constant they can be shut down.
        in_place: whether the sum is written over this output, which then must have the full shape.
        other_is_live: whether the other operand has the full shape and is not constant.
    """

    module: str
    makers: tuple[str, ...]
    labels: Tensor
    constants: Tensor
    dims: int
    shuts: tuple[str, ...]
    in_place: bool
    other_is_live: bool


@dataclass(frozen=True, eq=False)
class Sum:
    """An operator that adds channels up without a weight (a product of activations, a sum): those that are zero can go.

    Attributes:
        labels: (C,) of what is added up.
        live: (C,) bool; what is not always zero.
    """

    labels: Tensor
    live: Tensor


@dataclass(frozen=True)
class Number:
    """A whole number that a module holds and its forward pass reads: the attribute of a module ("" for the network itself)."""

    module: str
    name: str
    index: int = -1  # of a tuple, -1 for a number


@dataclass(frozen=True, eq=False)
class Pieces:
    """Channels that the network's code takes apart by counting them: what remains must keep the same proportion.

    Attributes:
        parts: (n,) labels of each piece, in the order of the code.
        weights: whole numbers without a common divisor; a piece keeps so many times what all others keep.
        where: the operator, as reasons name it.
        number: what the code counts with: a number of a module, which is set to what remains; None where it counts the channels.
    """

    parts: tuple[Tensor, ...]
    weights: tuple[int, ...]
    where: str
    number: Number | None = None


@dataclass(frozen=True, eq=False)
class Attention:
    """The heads that a module attends with.

    Attributes:
        module: the innermost module whose code multiplies the attention by the values.
        labels: (heads,) one label a head, in the order in which the code has them (again and again, where it has them for each
            image).
    """

    module: str
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Traced:
    """A program and its tensors.

    Attributes:
        nodes: in the order in which they run.
        made: name of a node → a :class:`~slimnet.graph.values.Value`, or a list of them.
    """

    nodes: tuple[Node, ...]
    made: Mapping[str, Any]


@dataclass
class Analysis:
    """All that was found out about a model.

    Attributes:
        model: the model.
        labels: the channel labels, united, and the reasons that pin some.
        entries: by (tensor name, dimension), in execution order.
        readers: in execution order.
        movers: module name → labels of its input and output channels, for modules that have ``keep_channels``.
        norm_behind: weight name of a convolution → name of the norm module that alone reads its output.
        summands: what is added to a stream by a module of its own, in execution order.
        sums: operators that add channels up without a weight.
        pieces: channels that are counted, in execution order.
        attentions: what attends with several heads, in execution order.
        silent: weight or bias → (rows,) bool, the rows that make queries or keys and nothing else: they go with their head, but
            say nothing by themselves.
        frozen: parameter → why it may not be cut, for parameters that an operator uses in a way that is not known.
        noted: names of the parameters that the current operator's rule has noted.
        traced: what is known of each tensor, where the program itself is to be cut (``as_graph``); else None.
        runs: how many different runs of the network it was found in, where control flow depends on data; 0: it holds for all.
    """

    model: nn.Module
    labels: Labels = field(default_factory=Labels)
    entries: dict[tuple[str, int], Entry] = field(default_factory=dict)
    readers: list[Reader] = field(default_factory=list)
    movers: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    norm_behind: dict[str, str] = field(default_factory=dict)
    summands: list[Summand] = field(default_factory=list)
    sums: list[Sum] = field(default_factory=list)
    pieces: list[Pieces] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)
    silent: dict[str, Tensor] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)
    traced: Traced | None = None
    runs: int = 0

    def note(self, param: Param, dim: int, labels: Tensor, role: Role) -> None:
        """Tie the indices of a parameter's dimension to channels; a second use unites both."""
        key = (param.name, dim)
        self.noted.add(param.name)
        if key in self.entries:
            self.labels.unite(self.entries[key].labels, labels)
            untied = (self.entries[key].labels == NONE) != (labels == NONE)
            self.labels.pin(torch.cat([labels[untied], self.entries[key].labels[untied]]), f"{param.name} is used twice")
        else:
            self.entries[key] = Entry(param.name, dim, labels, role)

    def pin_frozen(self) -> None:
        """Pin the channels of the parameters that may not be cut."""
        for entry in self.entries.values():
            if entry.name in self.frozen:
                self.labels.pin(entry.labels, self.frozen[entry.name])

    def roots(self, labels: Tensor) -> Tensor:
        """Representatives of ``labels``."""
        return self.labels.roots(labels)

    def pinned(self, root: int) -> str:
        """Why a channel may not be removed, "" where it may."""
        return self.labels.reason(root)
