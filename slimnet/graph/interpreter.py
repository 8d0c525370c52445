"""Walk through a captured program with labels and constants in place of numbers; rules say what each operator does to them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from slimnet.graph.capture import Program, is_empty, operator_in, placed, shape_of
from slimnet.graph.counts import Counts, watch
from slimnet.graph.findings import Analysis, MovesChannels, Param
from slimnet.graph.heads import Blocks, Tie
from slimnet.graph.values import NONE, Value, live

Rule = Callable[..., Any]
"""Takes the interpreter, the node and its arguments; gives what is known of its output."""


class Interpreter:
    """Runs a captured program on labels and constants instead of numbers.

    Args:
        model: the network.
        program: what it does, operator by operator.
        rule_for: what an operator does to labels and constants, by its node; None where nobody knows.
        inputs: what the program was captured with.
        blocks: the rows that make a head of an attention; None where they are yet to be found.
        as_graph: whether the program itself is to be cut: the whole numbers in it can be written anew, modules have no say.
    """

    def __init__(
        self,
        model: nn.Module,
        program: Program,
        rule_for: Callable[[Node], Rule | None],
        inputs: tuple[Tensor, ...] = (),
        blocks: Blocks | None = None,
        *,
        as_graph: bool = False,
    ) -> None:
        self.program = program
        self._inputs = inputs
        self.blocks = blocks
        self.as_graph = as_graph
        self.ties: list[Tie] = []
        self.is_incomplete = False
        self._rule_for = rule_for
        self.analysis = Analysis(model)
        self.labels = self.analysis.labels
        self.env: dict[str, Any] = {}
        self.made: dict[str, Any] = {}  # what each node made, also where it was overwritten later
        self.sources: dict[str, frozenset[str]] = {}
        self.whole: set[int] = set()  # labels that stand for tensors of which the channels are not known
        self._modules = dict(model.named_modules())
        self._at = {node: number for number, node in enumerate(program.nodes)}
        self._shared: dict[Node, list[Node]] = {}  # what made some memory → the tensors in it, in the order of the program
        for node in program.nodes:
            self._shared.setdefault(_base(node), []).append(node)
        self._written = {_base(node.args[0]) for node in program.nodes if _writes(node) and isinstance(node.args[0], Node)}

    @cached_property
    def counts(self) -> Counts:
        """Where the numbers come from that the network's code counts channels with: it runs once, when this is asked."""
        return watch(self.analysis.model, self._inputs)

    def walk(self) -> Analysis:
        """Visit every node once."""
        for node in self.program.nodes:
            if node.op == "placeholder":
                self.env[node.name] = self._placeholder(node)
            elif node.op == "output":
                self._output(node)
            elif node.op == "call_function":
                self._call(node, self._rule_for(node))
            else:  # a graph within the graph: whatever takes it has no rule
                self.env[node.name] = None
        self._join_movers()
        self.analysis.pin_frozen()
        return self.analysis

    def value(self, argument: Any) -> Any:
        """An argument of a node with nodes replaced by what is known of them."""
        if isinstance(argument, Node):
            return self.env[argument.name]
        if isinstance(argument, list | tuple):
            return type(argument)(self.value(item) for item in argument)
        return argument

    def module(self, path: str) -> nn.Module | None:
        """The module of that name; that of a second run of it has the same (``norm@1``)."""
        return self._modules.get(path.partition("@")[0])

    def mover(self, node: Node) -> str:
        """Name of the module around ``node`` that has ``keep_channels`` (``path@1``: it runs the second time), "" for none."""
        if self.as_graph:
            return ""
        for path, _ in reversed(list((node.meta.get("nn_module_stack") or {}).values())):
            if isinstance(self._modules.get(str(path).partition("@")[0]), MovesChannels):
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
        return Value(shape, self.whole_label(operator_in(node)).reshape((1,) * len(shape)), live(shape))

    def scouts(self) -> bool:
        """Whether heads are yet to be found, so that a view that makes dimensions out of channels ties none of them together."""
        self.is_incomplete = self.is_incomplete or self.blocks is None
        return self.blocks is None

    def fresh_rows(self, weight: Param, bias: Param | None) -> Tensor:
        """New labels for the rows of a layer, (rows,): one a row, or one a head where the rows make heads."""
        rows = self.labels.fresh(weight.tensor.shape[0])
        if self.blocks is None or weight.name not in self.blocks.rows:
            return rows
        for param in (weight, bias):
            if param is not None:
                self.analysis.silent[param.name] = self.blocks.silent[weight.name]
        return rows[self.blocks.rows[weight.name]]

    def tie(self, heads: Tensor, *, silent: bool) -> Tensor:
        """Labels of one row, (heads, k), belong to one head; their representatives, (heads,).

        Args:
            heads: labels.
            silent: whether they are of queries and keys.
        """
        if not heads.shape[1]:  # of no channel at all
            return heads.new_full((len(heads),), NONE)
        if self.blocks is None:  # they become one once all of them are known
            self.ties.append(Tie(heads, silent))
            return heads[:, 0]
        self.labels.unite(heads[:, :1].expand_as(heads), heads)
        return self.labels.roots(heads[:, 0])

    def whole_label(self, reason: str) -> Tensor:
        """(1,) a pinned label for a tensor of which the channels are not known."""
        label = self.labels.fresh(1)
        self.labels.pin(label, reason)
        self.whole.add(int(label))
        return label

    def _placeholder(self, node: Node) -> Any:
        if node.name in self.program.tensors:
            name, tensor = self.program.tensors[node.name]
            if tensor.is_complex() or node in self._written:  # no number that it is known to stay
                tensor = torch.full(tensor.shape, torch.nan, dtype=torch.float64)
            return Param(name, tensor)
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

    def _call(self, node: Node, rule: Rule | None) -> None:
        self.sources[node.name] = self._sources(node)
        arguments = self.value(list(node.args))
        before = self._first_value(arguments)
        self.analysis.noted.clear()
        self.labels.place = functools.partial(placed, node)
        makes_nothing = bool(self.program.runs) and is_empty(node) and not node.all_input_nodes
        if makes_nothing:
            result: Any = _nothing(node)
        elif rule is None:
            self.pin(arguments, operator_in(node))
            self.pin(list(self.value(list(node.kwargs.values()))), operator_in(node))
            result = self.opaque(node)
        else:
            keywords = {key: self.value(value) for key, value in node.kwargs.items()}
            try:
                result = rule(self, node, *arguments, **keywords)
            except RuntimeError:  # what a rule asks of torch may be more than it does without entries
                if not self._lacks_entries(node):
                    raise
                result = None
            if self._lacks_entries(node) and (result is None or not _is_sound(result)):
                self.pin([*arguments, *keywords.values(), result], operator_in(node))
                result = self.opaque(node)
        self.env[node.name] = self.made[node.name] = result
        self._freeze_others(node)
        self._overwrite(node, result)
        self._note_mover(node, before, result)
        self.labels.place = None

    def _lacks_entries(self, node: Node) -> bool:
        """Whether an operator makes, or takes, tensors without entries in a recorded run."""
        return bool(self.program.runs) and any(map(is_empty, (node, *node.all_input_nodes)))

    def _freeze_others(self, node: Node) -> None:
        """A parameter of which a rule has said nothing must stay as it is."""
        for argument in node.all_input_nodes:
            param = self.env[argument.name]
            if isinstance(param, Param) and param.name not in self.analysis.noted and self.env[node.name] is not param:
                reason = self.labels.placed(f"{param.name} is also used by {operator_in(node)}")
                self.analysis.frozen.setdefault(param.name, reason)

    def _sources(self, node: Node) -> frozenset[str]:
        """The layers whose outputs flow into a node without another layer in between."""
        return frozenset().union(*(self.sources.get(argument.name, frozenset()) for argument in node.all_input_nodes))

    def _overwrite(self, node: Node, result: Any) -> None:
        """An in-place operator also changes its first argument, and whatever that is a view of."""
        target = node.args[0] if node.args else None
        if not (_writes(node) and isinstance(target, Node)):
            return
        if target.op == "placeholder" and target.name in self.program.tensors:
            return
        before, self.env[target.name] = self.env[target.name], result
        if result is not before:
            self._overwrite_others(node, target)

    def _overwrite_others(self, node: Node, target: Node) -> None:
        """Where somebody still reads the changed memory under another name, nothing is known of it any more."""
        reason = f"changed in place through a view ({node.name})"
        seen = self._at[node]
        for other in self._shared[_base(target)]:
            if other is target or self._at[other] >= seen or all(self._at[user] <= seen for user in other.users):
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

    def _join_movers(self) -> None:
        """A module that runs more than once moves the same channels each time."""
        calls = self.analysis.movers
        self.analysis.movers = {}
        for path, ends in calls.items():
            name = path.partition("@")[0]
            for known, found in zip(self.analysis.movers.setdefault(name, ends), ends, strict=True):
                if len(known) == len(found):
                    self.labels.unite(known, found)
                else:
                    self.labels.pin(torch.cat([known, found]), f"{name} runs with other channels each time")


def _is_sound(value: Any) -> bool:
    return all(map(_is_sound, value)) if isinstance(value, list | tuple) else not isinstance(value, Value) or value.is_sound


def _nothing(node: Node) -> Any:
    """What is known of tensors that are made without entries: they tie nothing."""
    value = node.meta["val"]
    shapes = [tuple(item.shape) for item in (value if isinstance(value, list | tuple) else [value])]
    made = [Value(shape, torch.full((1,) * len(shape), NONE), live(shape)) for shape in shapes]
    return made if isinstance(value, list | tuple) else made[0]


def _shares_memory(node: Node) -> bool:
    """Whether what a node makes is a view of its first argument, or that argument changed in place."""
    target = node.target
    if target is operator.getitem:
        return isinstance(node.args[0], Node) and _shares_memory(node.args[0])
    return isinstance(target, torch._ops.OpOverload) and any(
        argument.alias_info is not None for argument in target._schema.arguments
    )


def _writes(node: Node) -> bool:
    """Whether an operator changes its first argument in place."""
    name = str(getattr(node.target, "__name__", node.target)).split(".")[0]
    return node.op == "call_function" and bool(node.args) and name.endswith("_") and not name.endswith("__")


def _base(node: Node) -> Node:
    """What made the memory in which a tensor lies."""
    while _shares_memory(node) and node.args and isinstance(node.args[0], Node):
        node = node.args[0]
    return node


def _forgotten(value: Any) -> Any:
    """A value (or list of values) of which no constant is known."""
    if isinstance(value, list | tuple):
        return [_forgotten(item) for item in value]
    return Value(value.shape, value.labels, live(value.shape)) if isinstance(value, Value) else value
