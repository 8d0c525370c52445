"""What each operator does to labels and constants. An operator without a rule pins what it touches."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from slimnet.graph.interpreter import Interpreter, Rule
from slimnet.graph.rules import attention, joining, linear, moving, norms, picking, pieces, pointwise, products, space
from slimnet.graph.rules.registry import RULES, rule

__all__ = [
    "attention",
    "joining",
    "linear",
    "moving",
    "norms",
    "picking",
    "pieces",
    "pointwise",
    "products",
    "rule",
    "rule_for",
    "space",
]


def rule_for(node: Node) -> Rule | None:
    """The rule for a node's operator, None where there is none."""
    if node.target is operator.getitem:
        return _getitem
    if not isinstance(node.target, torch._ops.OpOverload):
        return None
    if node.target.namespace != "aten":
        return RULES.get(node.target._schema.name)
    name = node.target._schema.name.removeprefix("aten::")
    plain = name if name in RULES or name in pointwise.POINTWISE else name.removesuffix("_")
    if plain in RULES:
        return RULES[plain]
    if plain in pointwise.POINTWISE or torch.Tag.pointwise in node.target.tags:
        return pointwise.pointwise
    return None


def _getitem(_: Interpreter, node: Node, values: Sequence[Any], index: int) -> Any:
    return values[index]
