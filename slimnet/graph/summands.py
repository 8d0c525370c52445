"""What is added to a residual stream, and which modules serve that alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.fx import Node

from slimnet.graph.capture import module_path, shape_of
from slimnet.graph.findings import Param, Summand
from slimnet.graph.interpreter import Interpreter
from slimnet.graph.values import Value

ADDITIONS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)


def find_summands(run: Interpreter) -> list[Summand]:
    """All summands of a network that has been interpreted."""
    modules = dict(run.analysis.model.named_modules(remove_duplicate=False))
    calls = _calls(run.program.nodes)
    found = []
    for node in run.program.nodes:
        if node.op == "call_function" and node.target in ADDITIONS and len(node.args) == 2 and not node.kwargs:
            for operand, other in (node.args, tuple(reversed(node.args))):
                summand = _summand(run, node, operand, other, modules, calls)
                if summand is not None:
                    found.append(summand)
    return found


def _calls(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    """Module → its nodes; a module that runs twice has an entry with "@" for each further time."""
    calls: dict[str, list[Node]] = {}
    for node in nodes:
        if node.op == "call_function":
            calls.setdefault(module_path(node), []).append(node)
    return calls


def _summand(
    run: Interpreter,
    addition: Node,
    operand: object,
    other: object,
    modules: Mapping[str, nn.Module],
    calls: Mapping[str, list[Node]],
) -> Summand | None:
    if not (isinstance(operand, Node) and isinstance(other, Node)) or len(operand.users) != 1:
        return None
    value, rest = run.made.get(operand.name), run.made.get(other.name)
    path = module_path(operand)
    if not isinstance(value, Value) or not isinstance(rest, Value) or not _is_leaf(path, modules, calls):
        return None
    labels, makers = value.along(1) if len(value.shape) > 1 else None, _makers(run, operand)
    if labels is None or not makers or shape_of(addition) != value.shape:
        return None
    return Summand(
        module=path,
        makers=makers,
        labels=labels,
        constants=value.constant_along(1),
        dims=len(value.shape),
        shuts=_served(run, operand, modules, calls),
        in_place="add_" in str(addition.target) and operand is addition.args[0],
        other_is_live=rest.shape == value.shape and bool(rest.constant.isnan().any()),
    )


def _is_leaf(path: str, modules: Mapping[str, nn.Module], calls: Mapping[str, list[Node]]) -> bool:
    """Whether a module has no children and runs once, under one name."""
    module = modules.get(path)
    names = [name for name in calls if modules.get(name.partition("@")[0]) is module]
    return module is not None and path != "" and not any(module.children()) and names == [path]


def _makers(run: Interpreter, node: Node) -> tuple[str, ...]:
    """The module of a convolution, or of a norm and the convolution that it alone reads."""
    path = module_path(node)
    weight = run.env.get(getattr(node.args[1], "name", "")) if len(node.args) > 1 else None
    if not isinstance(weight, Param):
        return ()
    if "conv" in str(node.target):
        return (path,)
    behind = [conv.rpartition(".")[0] for conv, norm in run.analysis.norm_behind.items() if norm == path]
    return (behind[0], path) if len(behind) == 1 else ()


def _served(
    run: Interpreter, operand: Node, modules: Mapping[str, nn.Module], calls: Mapping[str, list[Node]]
) -> tuple[str, ...]:
    """Leaf modules whose nodes lead to ``operand`` and nowhere else, and whose weights nobody else uses."""
    dead = {operand}
    queue = [operand]
    while queue:
        for source in queue.pop().all_input_nodes:
            if source not in dead and source.op == "call_function" and all(user in dead for user in source.users):
                dead.add(source)
                queue.append(source)
    paths = dict.fromkeys(module_path(node) for node in dead)
    wanted = {
        run.program.tensors[node.name][0].rpartition(".")[0]
        for node in run.program.nodes
        if node.name in run.program.tensors and not dead.issuperset(node.users)
    }
    return tuple(
        path
        for path in paths
        if path not in wanted and _is_leaf(path, modules, calls) and all(node in dead for node in calls[path])
    )
