"""Push channel labels and constants through the operators of a model.

A producer (convolution, linear layer) makes a new label for each of its output channels. Operators that move data are run on
the labels themselves, so that the index map is exact by construction. Element-wise operators unite the labels that meet; norms
and depthwise layers pass them through; consumers note which label each of their input columns reads. An operator that nobody
knows pins whatever it touches, and its name is the reason.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.fx import Node

from slimnet.graph.capture import ExampleInputs, Program, capture, module_path, shape_of
from slimnet.graph.values import NONE, Labels, Value, live

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
        frozen: parameter → why it may not be cut, for parameters that an operator uses in a way that is not known.
        noted: names of the parameters that the current operator's rule has noted.
    """

    model: nn.Module
    labels: Labels = field(default_factory=Labels)
    entries: dict[tuple[str, int], Entry] = field(default_factory=dict)
    readers: list[Reader] = field(default_factory=list)
    movers: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    norm_behind: dict[str, str] = field(default_factory=dict)
    summands: list[Summand] = field(default_factory=list)
    frozen: dict[str, str] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)

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


class Interpreter:
    """Runs a captured program on labels and constants instead of numbers."""

    def __init__(self, model: nn.Module, program: Program) -> None:
        self.program = program
        self.analysis = Analysis(model)
        self.labels = self.analysis.labels
        self.env: dict[str, Any] = {}
        self.made: dict[str, Any] = {}  # what each node made, also where it was overwritten later
        self.sources: dict[str, frozenset[str]] = {}
        self.whole: set[int] = set()  # labels that stand for tensors of which the channels are not known
        self._modules = dict(model.named_modules())

    def run(self) -> Analysis:
        """Visit every node once."""
        from slimnet.graph.rules import rule_for
        from slimnet.graph.summands import find_summands

        for node in self.program.nodes:
            if node.op == "placeholder":
                self.env[node.name] = self._placeholder(node)
            elif node.op == "output":
                self._output(node)
            elif node.op == "call_function":
                self._call(node, rule_for(node))
            else:  # a graph within the graph: whatever takes it has no rule
                self.env[node.name] = None
        self.analysis.pin_frozen()
        self.analysis.summands = find_summands(self)
        return self.analysis

    def value(self, argument: Any) -> Any:
        """An argument of a node with nodes replaced by what is known of them."""
        if isinstance(argument, Node):
            return self.env[argument.name]
        if isinstance(argument, list | tuple):
            return type(argument)(self.value(item) for item in argument)
        return argument

    def mover(self, node: Node) -> str:
        """Name of the module around ``node`` that has ``keep_channels``, "" for none."""
        for path, _ in reversed(list((node.meta.get("nn_module_stack") or {}).values())):
            if isinstance(self._modules.get(path), MovesChannels):
                return str(path)
        return ""

    def pin(self, argument: Any, reason: str) -> None:
        """Pin all channels of a value (or list of values)."""
        if isinstance(argument, Value):
            self.labels.pin(argument.labels, reason)
        elif isinstance(argument, list | tuple):
            for item in argument:
                self.pin(item, reason)

    def opaque(self, node: Node) -> Any:
        """What is known of the output of an operator that nobody knows: its channels must all stay."""
        value = node.meta.get("val")
        if isinstance(value, list | tuple):
            return [self._opaque(tuple(item.shape), node) for item in value if isinstance(item, Tensor)]
        return self._opaque(shape_of(node), node)

    def _opaque(self, shape: tuple[int, ...], node: Node) -> Value:
        return Value(shape, self.whole_label(_unknown(node)).reshape((1,) * len(shape)), live(shape))

    def whole_label(self, reason: str) -> Tensor:
        """(1,) a pinned label for a tensor of which the channels are not known."""
        label = self.labels.fresh(1)
        self.labels.pin(label, reason)
        self.whole.add(int(label))
        return label

    def _placeholder(self, node: Node) -> Any:
        if node.name in self.program.tensors:
            return Param(*self.program.tensors[node.name])
        shape = shape_of(node)
        reason = "input of the network" if node.name in self.program.inputs else "made in the forward pass"
        view = [1] * len(shape)
        if len(shape) < 2 or node.name in self.program.lifted:
            return Value(shape, self.whole_label(reason).reshape(view), live(shape))
        view[1] = shape[1]
        labels = self.labels.fresh(shape[1])
        self.labels.pin(labels, reason)
        return Value(shape, labels.reshape(view), live(shape))

    def _output(self, node: Node) -> None:
        self.pin(self.value(node.args[0]), "output of the network")

    def _call(self, node: Node, rule: Callable[..., Any] | None) -> None:
        self.sources[node.name] = self._sources(node)
        arguments = self.value(list(node.args))
        before = self._first_value(arguments)
        self.analysis.noted.clear()
        if rule is None:
            self.pin(arguments, _unknown(node))
            self.pin(list(self.value(list(node.kwargs.values()))), _unknown(node))
            result = self.opaque(node)
        else:
            keywords = {key: self.value(value) for key, value in node.kwargs.items()}
            result = rule(self, node, *arguments, **keywords)
        self.env[node.name] = self.made[node.name] = result
        self._freeze_others(node)
        self._overwrite(node, result)
        self._note_mover(node, before, result)

    def _freeze_others(self, node: Node) -> None:
        """A parameter of which a rule has said nothing must stay as it is."""
        for argument in node.all_input_nodes:
            param = self.env[argument.name]
            if isinstance(param, Param) and param.name not in self.analysis.noted and self.env[node.name] is not param:
                self.analysis.frozen.setdefault(param.name, f"{param.name} is also used by {_unknown(node)}")

    def _sources(self, node: Node) -> frozenset[str]:
        """The layers whose outputs flow into a node without another layer in between."""
        return frozenset().union(*(self.sources.get(argument.name, frozenset()) for argument in node.all_input_nodes))

    def _overwrite(self, node: Node, result: Any) -> None:
        """An in-place operator also changes its first argument, and whatever that is a view of."""
        name = str(getattr(node.target, "__name__", node.target)).split(".")[0]
        target = node.args[0] if node.args else None
        if not (name.endswith("_") and not name.endswith("__") and isinstance(target, Node)):
            return
        if target.op == "placeholder" and target.name in self.program.tensors:
            return
        before, self.env[target.name] = self.env[target.name], result
        if result is not before:
            self._overwrite_others(node, target)

    def _overwrite_others(self, node: Node, target: Node) -> None:
        """Where somebody still reads the changed memory under another name, nothing is known of it any more."""
        reason = f"changed in place through a view ({node.name})"
        seen = list(self.program.nodes).index(node)
        later = set(self.program.nodes[seen + 1 :])
        base = [target, *_bases(target)][-1]
        for other in self.program.nodes[:seen]:
            if other is target or base not in (other, *_bases(other)) or later.isdisjoint(other.users):
                continue
            self.pin([self.env[other.name], self.env[node.name]], reason)
            self.env[other.name] = _forgotten(self.env[other.name])

    def _first_value(self, arguments: Any) -> Value | None:
        for item in arguments:
            if isinstance(item, Value):
                return item
        return None

    def _note_mover(self, node: Node, before: Value | None, result: Any) -> None:
        path = self.mover(node)
        if not path or before is None or not isinstance(result, Value) or len(result.shape) < 2:
            return
        inputs, outputs = before.along(1), result.along(1)
        if inputs is None or outputs is None:
            return
        first = self.analysis.movers.get(path, (inputs, outputs))[0]
        self.analysis.movers[path] = (first, outputs)


def _shares_memory(node: Node) -> bool:
    """Whether what a node makes is a view of its first argument, or that argument changed in place."""
    target = node.target
    if target is operator.getitem:
        return isinstance(node.args[0], Node) and _shares_memory(node.args[0])
    return isinstance(target, torch._ops.OpOverload) and any(
        argument.alias_info is not None for argument in target._schema.arguments
    )


def _bases(node: Node) -> list[Node]:
    """What a tensor shares its memory with, one after the other, to the one that made the memory."""
    bases: list[Node] = []
    while _shares_memory(node) and node.args and isinstance(node.args[0], Node):
        node = node.args[0]
        bases.append(node)
    return bases


def _forgotten(value: Any) -> Any:
    """A value (or list of values) of which no constant is known."""
    if isinstance(value, list | tuple):
        return [_forgotten(item) for item in value]
    return Value(value.shape, value.labels, live(value.shape)) if isinstance(value, Value) else value


def _unknown(node: Node) -> str:
    name = str(node.target).removesuffix(".default")
    where = module_path(node)
    return f"operator {name}" + (f" in {where}" if where else "")


def analyse(model: nn.Module, example_inputs: ExampleInputs) -> Analysis:
    """Find the channels of ``model`` and what ties them together; the model is left as it was.

    Args:
        model: any module that ``torch.export`` can follow.
        example_inputs: a tensor or tuple of tensors, batch first.

    Raises:
        GraphError: if the model cannot be exported with these inputs.
    """
    return Interpreter(model, capture(model, example_inputs)).run()
