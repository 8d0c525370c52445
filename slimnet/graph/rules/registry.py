"""The registry of operator rules, and what the rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from slimnet.graph.capture import is_told, module_path, operator_in
from slimnet.graph.findings import Param
from slimnet.graph.interpreter import Interpreter, Rule
from slimnet.graph.values import NONE, Value, compact

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for the operators ``aten.<name>`` and ``aten.<name>_``, all overloads; those of other libraries by their
    full name, such as ``torchvision::roi_align``."""

    def register(function: Rule) -> Rule:
        for name in names:
            assert name not in RULES, f"two rules for {name}"
            RULES[name] = function
        return function

    return register


def channel_value(shape: tuple[int, ...], dim: int, labels: Tensor, constant: Tensor) -> Value:
    """A value whose labels and constants, (shape[dim],) each, vary along one dimension."""
    view = [1] * len(shape)
    view[dim] = len(labels)
    return Value(shape, labels.reshape(view), compact(constant.to(torch.float64).reshape(view)))


def number(param: Param) -> Tensor:
    """A parameter in float64, on the CPU."""
    return param.tensor.detach().to("cpu", torch.float64)


def as_value(run: Interpreter, argument: Any) -> Value | None:
    """A value, or a parameter whose entries become channels; None for a number."""
    if isinstance(argument, Value):
        return argument
    if not isinstance(argument, Param):
        return None
    tensor = number(argument)
    wide = [dim for dim, size in enumerate(tensor.shape) if size > 1]
    labels = torch.full((1,) * tensor.dim(), NONE)
    if len(wide) == 1:
        made = run.labels.fresh(tensor.numel())
        labels = made.reshape(tensor.shape)
        run.analysis.note(argument, wide[0], made, "other")
    elif wide:
        reason = f"{argument.name} has more than one wide dimension"
        labels = run.whole_label(reason).reshape((1,) * tensor.dim())
    return Value(argument.shape, labels, compact(tensor))


def as_vector(run: Interpreter, argument: Any) -> Any:
    """A parameter of one wide dimension as a value; anything else as it is."""
    if isinstance(argument, Param) and sum(size > 1 for size in argument.shape) == 1:
        return as_value(run, argument)
    return argument


def opaque(run: Interpreter, node: Node, *arguments: Any) -> Any:
    """Pin what the operator touches: nothing can be said about it."""
    run.pin(list(arguments), operator_in(node))
    return run.opaque(node)


def numbers_vary(run: Interpreter, node: Node) -> bool:
    """Whether the numbers that an operator is given may be others on other inputs: they may depend on data, and are no settings
    of one of torch's modules."""
    kinds = type(run.module(module_path(node))).__mro__
    settings = any(kind.__module__.startswith("torch.nn.modules.") and kind.__module__ not in _ANY_FORWARD for kind in kinds)
    return is_told(node) and not settings


_ANY_FORWARD = (nn.Module.__module__, nn.Sequential.__module__)  # what is derived from these has a forward pass of its own


def sizes(value: Any) -> Sequence[int]:
    """One number or several, as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]
