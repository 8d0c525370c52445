"""Nodes that say which module of the network they compute: ``layer1.0.conv1`` in place of ``node_conv2d_3``."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Container, Iterable, Iterator

import onnx

_SCOPES = "pkg.torch.onnx.name_scopes"
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_WEIGHT = ".weight"


def name_by_module(proto: onnx.ModelProto) -> None:
    """Name every node after its module, in place: by what torch's exporter notes of it, and before that is stripped.

    A layer has the path of the module that its weights belong to (``layer1.0.conv1``), also where a norm was folded into it. So
    has the one node of a module that holds no other (``layer1.0.relu``). Others have the path of the module whose code computes
    them, and their operator: ``layer1.0.add``, ``reducemean``. A second node of the same name ends in ``_1``. The same network
    gives the same names.
    """
    nodes = proto.graph.node
    stored = {tensor.name for tensor in proto.graph.initializer}
    paths = [_module(node) for node in nodes]
    owners = [_owner(node, stored) for node in nodes]
    count = Counter(paths)
    parents = {parent for path in {*paths, *owners} for parent in _above(path)}
    taken: set[str] = set()
    for node, path, owner in zip(nodes, paths, owners, strict=True):
        is_module = path and count[path] == 1 and path not in parents
        node.name = free_name(owner or (path if is_module else _joined(path, node.op_type.lower())), taken)
        taken.add(node.name)


def _owner(node: onnx.NodeProto, stored: Iterable[str]) -> str:
    """The module whose weights a layer has; empty for what is no layer, or has weights that were computed."""
    if node.op_type not in _LAYERS or len(node.input) < 2 or node.input[1] not in stored:
        return ""
    return node.input[1].removesuffix(_WEIGHT) if node.input[1].endswith(_WEIGHT) else ""


def _module(node: onnx.NodeProto) -> str:
    """The path of the innermost module that computes a node; empty for the network itself, or where nothing is noted."""
    noted = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    try:
        scopes = ast.literal_eval(noted)  # ['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d_3']
        return str(scopes[-2])
    except (IndexError, KeyError, SyntaxError, TypeError, ValueError):
        return ""


def _above(path: str) -> Iterator[str]:
    """The paths of the modules that hold it: of ``a.b.c``, ``a.b`` and ``a``."""
    while path := path.rpartition(".")[0]:
        yield path


def _joined(path: str, operator: str) -> str:
    return f"{path}.{operator}" if path else operator


def free_name(name: str, taken: Container[str]) -> str:
    """The name, or the first of ``name_1``, ``name_2`` … that is not taken."""
    free, count = name, 0
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    return free
