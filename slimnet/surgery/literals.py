"""The whole numbers in an exported program that count channels (sizes of views, borders of slices, numbers of groups), anew.

They are found on the program as it was analysed, from the channels that remain of each tensor, and written into the program of
a fresh copy: the operators that make tensors are the same there, in the same order.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from slimnet.errors import SurgeryError
from slimnet.graph import Analysis, trace
from slimnet.graph.capture import operator_in, placed
from slimnet.graph.traced import tensor_operators
from slimnet.graph.values import Value
from slimnet.surgery.parts import OTHER

MOST = 2**28  # numbers in an input
VIEWS = ("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.expand.default")
SPLITS = (
    "aten.split.Tensor", "aten.split.sizes", "aten.split_with_sizes.default", "aten.chunk.default", "aten.tensor_split.sections",
    "aten.tensor_split.indices",
)  # fmt: skip


@dataclass(frozen=True)
class Literal:
    """Numbers of one operator.

    Attributes:
        index: which of the operators that make tensors, in the order in which they run.
        operator: its name, ``aten.view.default``.
        argument: name of the argument.
        before, after: its numbers; of a split, the sizes of its pieces.
    """

    index: int
    operator: str
    argument: str
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """How a program is made of a network, and what is written into it.

    Attributes:
        inputs: shape of each input.
        kinds: kind of number of each (``float32``); floating-point ones follow the network's.
        free: dimensions of the inputs whose size is open; the others are those of ``inputs``.
        operators: how many operators make tensors.
        literals: the numbers that change.
    """

    inputs: tuple[tuple[int, ...], ...]
    kinds: tuple[str, ...]
    free: tuple[int, ...]
    operators: int
    literals: tuple[Literal, ...] = ()

    def takes(self, inputs: Sequence[Tensor]) -> bool:
        """Whether the graph is for inputs of these shapes."""
        return all(
            len(shape) == value.dim() and all(d in self.free or shape[d] == value.shape[d] for d in range(value.dim()))
            for shape, value in zip(self.inputs, inputs, strict=True)
        )

    def trace(self, model: nn.Module) -> GraphModule:
        """The program of a network, before anything is cut; it shares the network's tensors.

        Raises:
            GraphError: if it cannot be exported.
            SurgeryError: if it is another one, or torch makes another program of it.
        """
        own = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), torch.empty(0))
        made = []
        for shape, kind in zip(self.inputs, self.kinds, strict=True):
            dtype = getattr(torch, kind, None)
            if not isinstance(dtype, torch.dtype):
                raise SurgeryError(f"{kind!r} is no kind of number that a network takes.")
            if math.prod(shape) > MOST:
                raise SurgeryError(f"an input of shape {shape} is larger than any that a plan is made with.")
            made.append(torch.zeros(shape, dtype=own.dtype if dtype.is_floating_point else dtype, device=own.device))
        module = trace(model, tuple(made), self.free)
        found = len(tensor_operators(module.graph.nodes))
        if found != self.operators:
            raise SurgeryError(f"the program has {found} operators, the plan expects {self.operators}: {_OTHER}.")
        return module

    def write(self, module: GraphModule) -> None:
        """Write the numbers, in place.

        Raises:
            SurgeryError: if an operator is another than the plan expects, or two sizes of a view are open.
        """
        nodes = tensor_operators(module.graph.nodes)
        for literal in self.literals:
            node = nodes[literal.index] if literal.index < len(nodes) else None
            if node is None or str(node.target) != literal.operator:
                raise SurgeryError(f"node {literal.index} is {node and node.target}, not {literal.operator}: {_OTHER}.")
            _write(node, literal)
        module.graph.lint()
        module.recompile()


_OTHER = f"{OTHER}, or with another version of torch"


class UnevenError(SurgeryError):
    """Channels that cannot go from a tensor as whole rows of its dimensions.

    Attributes:
        roots: representatives of these channels.
    """

    def __init__(self, message: str, roots: frozenset[int]) -> None:
        super().__init__(message)
        self.roots = roots


class OpenSizesError(SurgeryError):
    """A view of which more than one size depends on the input."""


def shapes_of(inputs: Sequence[Tensor], free: Sequence[int], analysis: Analysis) -> Graph:
    """A graph without changes. Where the batch is free, the example has two rows: torch takes one row for a number."""
    rows = 2 if 0 in free else 0
    return Graph(
        inputs=tuple((max(rows, value.shape[0]), *value.shape[1:]) if value.dim() else () for value in inputs),
        kinds=tuple(str(value.dtype).removeprefix("torch.") for value in inputs),
        free=tuple(free),
        operators=len(_operators(analysis)),
    )


def _operators(analysis: Analysis) -> list[Node]:
    assert analysis.traced is not None
    return tensor_operators(analysis.traced.nodes)


def find_literals(analysis: Analysis, removed: Tensor) -> tuple[Literal, ...]:
    """The numbers that change in the program of an analysis.

    Args:
        analysis: made with ``as_graph``.
        removed: representatives of the channels that go.

    Raises:
        UnevenError: if a tensor does not stay rectangular.
    """
    assert analysis.traced is not None
    made = analysis.traced.made
    found: list[Literal] = []
    for index, node in enumerate(_operators(analysis)):
        look = _look_for(str(node.target))
        source = node.args[0] if node.args else None
        if look is None or not isinstance(source, Node):
            continue
        x, result = made.get(source.name), made.get(node.name)
        if not isinstance(x, Value) or result is None:
            continue

        def kept(value: Value, node: Node = node) -> list[Tensor]:
            return _kept(analysis, value, removed, node)

        for argument, before, after in look(node, x, result, kept):
            if before != after:
                found.append(Literal(index, str(node.target), argument, tuple(before), tuple(after)))
    return tuple(found)


def _kept(analysis: Analysis, value: Value, removed: Tensor, node: Node) -> list[Tensor]:
    """For each dimension (size,) bool, what remains along it."""
    roots = analysis.roots(value.labels)
    flags = ~torch.isin(roots, removed)
    along, whole = [], torch.ones((), dtype=torch.bool)
    for dim in range(flags.dim()):
        others = [other for other in range(flags.dim()) if other != dim]
        rows = flags.to(torch.uint8).amax(dim=others).bool() if others else flags
        whole = whole & rows.reshape([-1 if other == dim else 1 for other in range(flags.dim())])
        along.append(rows.expand(value.shape[dim]))
    if not torch.equal(whole.expand(flags.shape), flags):
        gone = frozenset(roots[~flags].tolist())
        raise UnevenError(placed(node, f"what remains of the channels is no whole number of rows ({operator_in(node)})"), gone)
    return along


Kept = Callable[[Value], list[Tensor]]
Change = tuple[str, Sequence[int], Sequence[int]]
Look = Callable[[Node, Value, Any, Kept], list[Change]]


def _look_for(operator: str) -> Look | None:
    """Which numbers of an operator count channels."""
    name = operator.removeprefix("aten.").split(".")[0]
    if operator in VIEWS:
        return _of_view
    if operator in SPLITS:
        return _of_split
    if name in ("slice", "narrow"):
        return _of_slice
    if name == "unflatten":
        return _of_unflatten
    if name in ("group_norm", "convolution") or name.startswith("conv"):
        return _of_groups
    return None


def _of_view(node: Node, x: Value, result: Value, kept: Kept) -> list[Change]:
    argument = "size" if _has(node, "size") else "shape"
    before = [size if isinstance(size, int) else -1 for size in get(node, argument)]
    sizes = [int(rows.sum()) for rows in kept(result)]
    return [(argument, before, [old if old == -1 else new for old, new in zip(before, sizes, strict=True)])]


def _of_unflatten(node: Node, x: Value, result: Value, kept: Kept) -> list[Change]:
    dim, before = int(get(node, "dim")) % len(x.shape), list(get(node, "sizes"))
    sizes = [int(rows.sum()) for rows in kept(result)][dim : dim + len(before)]
    return [("sizes", before, [old if old == -1 else new for old, new in zip(before, sizes, strict=True)])]


def _of_split(node: Node, x: Value, result: Any, kept: Kept) -> list[Change]:
    dim = int(get(node, "dim") or 0) % len(x.shape)
    before = [piece.shape[dim] for piece in result]
    return [("", before, [int(rows.sum()) for rows in torch.split(kept(x)[dim], before)])]


def _of_slice(node: Node, x: Value, result: Value, kept: Kept) -> list[Change]:
    dim = int(get(node, "dim") or 0) % len(x.shape)
    rows = kept(x)[dim]
    if bool(rows.all()):
        return []

    def left(place: int) -> int:
        return int(rows[: slice(place).indices(len(rows))[1]].sum())

    start = get(node, "start") or 0
    if "narrow" in str(node.target):
        length = get(node, "length")
        new = left(start)
        return [("start", [start], [new]), ("length", [length], [left(start + length) - new])]
    end = sys.maxsize if get(node, "end") is None else get(node, "end")
    return [("start", [start], [left(start)]), ("end", [end], [end if end >= len(rows) else left(end)])]


def _of_groups(node: Node, x: Value, result: Value, kept: Kept) -> list[Change]:
    argument = "num_groups" if _has(node, "num_groups") else "groups"
    groups = get(node, argument) if _has(node, argument) else 1
    if not isinstance(groups, int) or groups == 1:
        return []
    channels = kept(x)[1]
    after, rest = divmod(groups * int(channels.sum()), len(channels))
    if rest:
        raise SurgeryError(placed(node, f"not a whole number of groups remains of {operator_in(node)}"))
    return [(argument, [groups], [after])]


def _names(node: Node) -> list[Any]:
    return list(node.target._schema.arguments)  # type: ignore[union-attr]


def _has(node: Node, name: str) -> bool:
    return any(argument.name == name for argument in _names(node))


def get(node: Node, name: str) -> Any:
    """An argument of an operator by its name; its default where it is not given, None where it has no such argument."""
    for place, argument in enumerate(_names(node)):
        if argument.name == name:
            return node.args[place] if place < len(node.args) else node.kwargs.get(name, argument.default_value)
    return None


def put(node: Node, name: str, value: Any) -> None:
    """Set an argument of an operator by its name."""
    place = next(index for index, argument in enumerate(_names(node)) if argument.name == name)
    if place < len(node.args):
        node.update_arg(place, value)
    else:
        node.update_kwarg(name, value)


def _write(node: Node, literal: Literal) -> None:
    if str(node.target) in SPLITS:
        dim = get(node, "dim") or 0
        node.target = torch.ops.aten.split_with_sizes.default
        node.args, node.kwargs = (node.args[0], list(literal.after), dim), {}
        return
    held = get(node, literal.argument)
    if held is None and literal.argument in ("start", "end") and len(literal.after) == 1:
        put(node, literal.argument, literal.after[0])
        return
    is_list = isinstance(held, list | tuple)
    numbers = list(held) if is_list else [held]
    if len(numbers) != len(literal.before) or len(literal.before) != len(literal.after):
        raise SurgeryError(f"{literal.operator} {literal.index} has {len(numbers)} numbers: {_OTHER}.")
    for place, (old, new) in enumerate(zip(literal.before, literal.after, strict=True)):
        if old == new:
            continue
        if isinstance(numbers[place], Node):  # a size of the input times channels
            numbers[place] = -1
        elif numbers[place] == old:
            numbers[place] = new
        else:
            raise SurgeryError(f"{literal.operator} {literal.index} has {numbers[place]}, the plan expects {old}: {_OTHER}.")
    if is_list and sum(number == -1 for number in numbers if isinstance(number, int)) > 1:
        raise OpenSizesError(f"two sizes of {literal.operator} {literal.index} depend on the size of the input.")
    put(node, literal.argument, numbers if is_list else numbers[0])


def add_bias(module: GraphModule, weight: Tensor, bias: str) -> None:
    """Let the layers that read a weight take a bias, in place, where they have none.

    Args:
        module: the graph.
        weight: the very tensor.
        bias: name of a parameter of the module.

    Raises:
        SurgeryError: if something that takes no bias reads the weight.
    """
    graph = module.graph
    for held in [node for node in graph.nodes if node.op == "get_attr"]:
        path, _, attribute = str(held.target).rpartition(".")
        if getattr(module.get_submodule(path), attribute) is not weight:
            continue
        for reader in list(held.users):
            if not _has(reader, "bias"):
                raise SurgeryError(f"{reader.target} takes no bias.")
            if get(reader, "bias") is None:
                with graph.inserting_before(reader):
                    put(reader, "bias", graph.get_attr(bias))
    graph.lint()
    module.recompile()
