"""Lower a whole network: all of its nodes, or none."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx.inliner
from onnx import TensorProto

from slimnet.onnx.lower.changes import CHANGES
from slimnet.onnx.lower.context import CannotLowerError, Context, Parts, referenced
from slimnet.onnx.lower.parts import OTHERWISE, PARTS
from slimnet.onnx.lower.schemas import fit, schema_of

STANDARD = ("", "ai.onnx")
OLDEST = 11
"""The oldest that is written: before it axes could not be negative, and Pad, Clip and Slice had no inputs."""


def lower(proto: onnx.ModelProto, wanted: int) -> onnx.ModelProto:
    """Write a network in an older operator set, in place; untouched if that cannot be done.

    Nodes whose operator has not changed stay. Most others differ in what onnx's schemas tell (types, attributes with a default):
    :mod:`slimnet.onnx.lower.schemas`. The rest is in two tables: what was said otherwise (:data:`CHANGES`), and what other
    operators have to say (:data:`PARTS`). Names, inputs, outputs and metadata stay.

    Args:
        proto: the network, in ``wanted`` or a newer set.
        wanted: from 11.

    Raises:
        CannotLowerError: naming the operator.
    """
    flat, held = _flat(proto), held_opset(proto)
    context = _context(flat, wanted)
    nodes = _lowered(flat.graph.node, held, context)
    if flat is not proto:
        proto.CopyFrom(flat)
    for entry in proto.opset_import:
        if entry.domain in STANDARD:
            entry.version = wanted
    _put(proto.graph, nodes, context.added)
    return proto


def lowest(proto: onnx.ModelProto) -> tuple[int, str]:
    """The oldest operator set that a network can be written in, and what stands in the way of an older one."""
    flat, held, why = _flat(proto), held_opset(proto), ""
    for wanted in range(OLDEST, held):
        try:
            _lowered(flat.graph.node, held, _context(flat, wanted))
        except CannotLowerError as error:
            why = str(error)
        else:
            return wanted, why
    return held, why


def held_opset(proto: onnx.ModelProto) -> int:
    """The version of onnx's own operators that a file says it has; 0 where it says none."""
    return max((entry.version for entry in proto.opset_import if entry.domain in STANDARD), default=0)


def _flat(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The network without functions of its own: what they do stands where they are called."""
    return onnx.inliner.inline_local_functions(proto) if proto.functions else proto


def _context(proto: onnx.ModelProto, wanted: int) -> Context:
    known = onnx.shape_inference.infer_shapes(proto).graph
    values = (*known.input, *known.output, *known.value_info)
    taken = {name for node in proto.graph.node for name in (*node.input, *node.output)}
    return Context(wanted, _constants(proto.graph), {value.name: value.type for value in values}, taken)


def _constants(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    """Those that the graph holds and nobody else can give."""
    given = {value.name for value in graph.input}
    found = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in given}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def _lowered(nodes: Sequence[onnx.NodeProto], held: int, context: Context) -> list[onnx.NodeProto]:
    return [part for node in nodes for part in _parts(node, held, context)]


def _parts(node: onnx.NodeProto, held: int, context: Context) -> list[onnx.NodeProto]:
    """What takes a node's place; the node itself where nothing has changed."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for one in copy.attribute:
        for graph in (one.g, *one.graphs) if one.type in (one.GRAPH, one.GRAPHS) else ():
            _lower_inner(graph, held, context)
    if node.domain not in STANDARD:
        return [copy]
    try:
        return _written(copy, held, context)
    except CannotLowerError as error:
        where = f" {node.name!r}" if node.name else ""
        raise CannotLowerError(f"{node.op_type}{where} {error}") from None


def _written(node: onnx.NodeProto, held: int, context: Context) -> list[onnx.NodeProto]:
    op, wanted = node.op_type, context.wanted
    new, old = schema_of(op, held), schema_of(op, wanted)
    if new is None:
        raise CannotLowerError(f"is no operator of opset {held}")
    if old is not None and old.since_version == new.since_version:
        return [node]
    since, decompose = PARTS.get(op, (0, None))
    if decompose is not None and wanted < since <= held:
        if len([name for name in node.output if name]) > 1:
            raise CannotLowerError("has several outputs")
        parts = Parts(node, context)
        decompose(node, context, parts)
        return parts.made
    if wanted < OTHERWISE.get(op, 0) <= held:
        raise CannotLowerError(f"computes something else below opset {OTHERWISE[op]}")
    for version, change in CHANGES.get(op, ()):
        if wanted < version <= held:
            change(node, context)
    if node.op_type != op:
        new, old = schema_of(node.op_type, held), schema_of(node.op_type, wanted)
    if new is None or old is None:
        raise CannotLowerError(f"does not exist below opset {_first(op)}")
    fit(node, new, old, context)
    return [node]


def _first(op: str) -> int:
    """The version that brought an operator."""
    newest = onnx.defs.onnx_opset_version()
    return next((version for version in range(1, newest + 1) if schema_of(op, version)), newest)


def _lower_inner(graph: onnx.GraphProto, held: int, context: Context) -> None:
    """A graph within a node, in place."""
    inner = Context(context.wanted, context.constants | _constants(graph), context.types, context.taken)
    inner.taken.update(name for node in graph.node for name in (*node.input, *node.output))
    _put(graph, _lowered(graph.node, held, inner), inner.added)


def _put(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto], added: Sequence[TensorProto]) -> None:
    """Give a graph its nodes, and its constants but those that only the old nodes read, in place."""
    before, outputs = referenced(graph.node), {value.name for value in graph.output}
    unread = before - referenced(nodes) - outputs
    tensors = [tensor for tensor in (*graph.initializer, *added) if tensor.name not in unread]
    kept = [node for node in nodes if node.op_type != "Constant" or node.output[0] not in unread]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensors)
