"""What each ONNX operator becomes in a .tflite file: the table, and what its rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from slimnet.errors import ExportError
from slimnet.onnx import graph
from slimnet.runtimes.tflite.file import Held, Writer

Rule = Callable[[Writer, Any], None]
RULES: dict[str, Rule] = {}
"""Operator → what writes it."""
_FUSED = {"Relu": "RELU", "Clip": "RELU6"}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Register a function for operators."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, function))
        return function

    return register


def translate(writer: Writer, node: Any) -> None:
    """Write a node, unless all of it is known already, or another has it inside.

    Raises:
        ExportError: if there is no rule for it, or none for how it is used.
    """
    if node.outputs[0].name in writer.held or graph.constant(node.outputs[0]) is not None:
        return
    if node.op_type not in RULES or node.domain not in ("", "ai.onnx"):
        raise unwritten(node, "has no rule")
    RULES[node.op_type](writer, node)


def unwritten(node: Any, why: str) -> ExportError:
    """What is said of a node that there is no rule for."""
    return ExportError(f"{node.op_type} ({node.name or node.outputs[0].name}) {why} in slimnet.runtimes.tflite.")


def source_of(writer: Writer, node: Any, position: int = 0) -> Held:
    """An input that the network computes."""
    value = graph.argument(node, position)
    if value is None or value.name not in writer.held:
        raise unwritten(node, "of constants is not written")
    return writer.held[value.name]


def sizes_of(node: Any) -> list[int]:
    """Of the output, as ONNX has it; the batch as 1."""
    sizes = graph.shape(node.outputs[0])
    if not sizes or None in sizes[1:]:
        raise unwritten(node, f"of sizes {sizes} is not written")
    return [1, *(size or 0 for size in sizes[1:])]


def map_sizes(node: Any) -> list[int]:
    """The same of a map, turned."""
    sizes = sizes_of(node)
    if len(sizes) != 4:
        raise unwritten(node, f"of sizes {sizes} is not written")
    return [sizes[0], sizes[2], sizes[3], sizes[1]]


def output_of(writer: Writer, node: Any, *, is_map: bool) -> Held:
    """A tensor for the output of a node."""
    made = writer.tensor(node.outputs[0].name, map_sizes(node) if is_map else sizes_of(node), is_map=is_map)
    writer.held[node.outputs[0].name] = made
    return made


def fusable(writer: Writer, node: Any) -> tuple[str, Any]:
    """The activation that is the only one to read a node, which then gives that one's output; else the node itself."""
    reader = graph.only_reader(node.outputs[0])
    if reader is not None and reader.op_type in _FUSED and (reader.op_type == "Relu" or bounds(reader) == (0, 6)):
        return _FUSED[reader.op_type], reader
    return "NONE", node


def bounds(node: Any) -> tuple[float, float]:
    """Of a Clip."""
    ends = [graph.constant(graph.argument(node, i)) for i in (1, 2)]
    low, high = (None if end is None else float(end) for end in ends)
    return (-np.inf if low is None else low), (np.inf if high is None else high)


def attribute(node: Any, name: str, default: Any) -> Any:
    """Of a node, or the operator's default; several numbers as a list."""
    found = graph.attribute(node, name, default)
    return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else found
