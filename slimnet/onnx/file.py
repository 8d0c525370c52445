"""What an ONNX file may ask of this machine: looked at before ONNX Runtime or onnx's own checks, which would do as it says.

A file of 2 KB whose functions call each other twice, 28 deep, has 2²⁸ nodes; weights may be said to lie in ``/etc/passwd``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import onnx

from slimnet.errors import FileFormatError, whole_text

MAX_NODES = 50_000
"""Nodes of the graph, of the graphs in it, and of the functions that it calls, as often as they are called."""
MAX_FUNCTIONS = 10_000
MAX_DEPTH = 32
"""Graphs within graphs, and functions called by functions."""
MAX_RANK = 32
MAX_ELEMENTS = 2**31
"""Of one tensor, as it is declared."""
MAX_GIVEN = 2**28
"""The same of an input, which is made here, and of a sparse tensor, which is spread out."""


def read_network(source: Path | bytes, name: str | None = None) -> onnx.ModelProto:
    """Parse an ONNX file, and refuse what no honest network asks for. Weights in further files are not read.

    Args:
        source: the file; or its content, which must hold all of its weights.
        name: what an error calls it.

    Raises:
        FileFormatError: if it is missing, no ONNX file, has more nodes or functions than the bounds, functions that call
            themselves, larger tensors, or weights outside of its folder.
    """
    name = name or (str(source) if isinstance(source, Path) else "the network")
    if isinstance(source, Path) and not source.is_file():
        reason = "is a folder" if source.is_dir() else "does not exist"
        raise FileFormatError(f"{name} {reason}: give an ONNX file.")
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
        proto = onnx.load_from_string(data)
    except Exception as error:  # protobuf's errors are not public
        reason = whole_text(error)
        raise FileFormatError(f"{name} is not a readable ONNX file ({reason}): it may be truncated.") from None
    try:
        _check(proto, source.parent if isinstance(source, Path) else None)
    except FileFormatError as error:
        raise FileFormatError(f"{name} {error}") from None
    return proto


def stored_bytes(path: Path) -> int:
    """Bytes of an ONNX file, and of the files beside it that hold its weights, each once.

    Raises:
        FileFormatError: as :func:`read_network`, also where weights lie outside of its folder.
    """
    places = [_about(tensor).get("location", "") for tensor in _tensors(read_network(path)) if _is_elsewhere(tensor)]
    return sum(file.stat().st_size for file in {path.resolve(), *((path.parent / place).resolve() for place in places)})


def _check(proto: onnx.ModelProto, folder: Path | None) -> None:
    if len(proto.functions) > MAX_FUNCTIONS:
        raise FileFormatError(f"has {len(proto.functions):,} functions: at most {MAX_FUNCTIONS:,} are taken.")
    _Counter(proto).check()
    for value in proto.graph.input:
        _check_size(value.name, _declared(value), MAX_GIVEN)
    for graph in _graphs(proto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            _check_size(value.name, _declared(value), MAX_ELEMENTS)
    for sparse in _sparse(proto):
        _check_size(sparse.values.name, sparse.dims, MAX_GIVEN)
    for tensor in _tensors(proto):
        _check_size(tensor.name, tensor.dims, MAX_ELEMENTS)
        if _is_elsewhere(tensor):
            _check_place(tensor, folder)


class _Counter:
    """Nodes as they will be once each function stands where it is called."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._graph = proto.graph
        self._functions = {_key(each.domain, each.name, each): each for each in proto.functions}
        self._known: dict[Any, tuple[int, int]] = {}
        self._open: set[Any] = set()

    def check(self) -> None:
        """The graph, and each function, called or not."""
        self._nodes(self._graph.node, 0)
        for key in self._functions:
            self._function(key, 0)

    def _nodes(self, nodes: Iterable[onnx.NodeProto], depth: int) -> tuple[int, int]:
        """How many there are, and how deep they go."""
        count = height = 0
        for node in nodes:
            count += 1
            parts = [self._nodes(graph.node, depth + 1) for graph in _subgraphs(node)]
            key = _key(node.domain, node.op_type, node)
            if key in self._functions:
                parts.append(self._function(key, depth + 1))
            count += sum(nodes for nodes, _ in parts)
            height = max([height, *(1 + below for _, below in parts)])
            if count > MAX_NODES:
                raise FileFormatError(f"has more than {MAX_NODES:,} nodes once its functions are put in: it is not opened.")
            if depth + height > MAX_DEPTH:
                raise FileFormatError(f"has graphs and functions more than {MAX_DEPTH} deep within each other.")
        return count, height

    def _function(self, key: Any, depth: int) -> tuple[int, int]:
        if key in self._open:
            raise FileFormatError(f"has a function {key[1]!r} that calls itself.")
        if key not in self._known:
            self._open.add(key)
            self._known[key] = self._nodes(self._functions[key].node, depth)
            self._open.remove(key)
        return self._known[key]


def _key(domain: str, name: str, holder: Any) -> tuple[str, str, str]:
    return "" if domain == "ai.onnx" else domain, name, holder.overload


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """All, also those within others and within functions."""
    yield proto.graph
    for nodes in _bodies(proto):
        for node in nodes:
            yield from _subgraphs(node)


def _bodies(proto: onnx.ModelProto) -> Iterator[Iterable[onnx.NodeProto]]:
    """The nodes of each graph and of each function."""
    left: list[Iterable[onnx.NodeProto]] = [proto.graph.node, *(function.node for function in proto.functions)]
    while left:
        nodes = left.pop()
        yield nodes
        left += [graph.node for node in nodes for graph in _subgraphs(node)]


def _sparse(proto: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    for graph in _graphs(proto):
        yield from graph.sparse_initializer
    for attribute in _attributes(proto):
        yield from (attribute.sparse_tensor, *attribute.sparse_tensors)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All that hold values: initial ones, and those that nodes and functions carry."""
    for graph in _graphs(proto):
        yield from graph.initializer
    for attribute in _attributes(proto):
        yield from (attribute.t, *attribute.tensors)
    for sparse in _sparse(proto):
        yield from (sparse.values, sparse.indices)


def _attributes(proto: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    for function in proto.functions:
        yield from function.attribute_proto
    for nodes in _bodies(proto):
        for node in nodes:
            yield from node.attribute


def _declared(value: onnx.ValueInfoProto) -> list[int]:
    """The sizes that are said; what is open counts as 1."""
    kind = value.type.tensor_type if value.type.HasField("tensor_type") else value.type.sparse_tensor_type
    return [max(1, dim.dim_value) for dim in kind.shape.dim]


def _check_size(name: str, sizes: Iterable[int], most: int) -> None:
    given = list(sizes)
    if len(given) > MAX_RANK:
        raise FileFormatError(f"has a tensor {name!r} of {len(given):,} dimensions: at most {MAX_RANK} are taken.")
    if min(given, default=0) < 0 or prod(given) > most:
        raise FileFormatError(f"has a tensor {name!r} of shape {tuple(given)}: at most {most:,} values are taken.")


def _is_elsewhere(tensor: onnx.TensorProto) -> bool:
    """Whether its values lie in another file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL or bool(tensor.external_data)


def _about(tensor: onnx.TensorProto) -> dict[str, str]:
    """Where in another file they lie."""
    return {entry.key: entry.value for entry in tensor.external_data}


def _check_place(tensor: onnx.TensorProto, folder: Path | None) -> None:
    """Weights in another file: it must lie in the folder of the network, also behind links."""
    about = _about(tensor)
    location, what = about.get("location", ""), f"keeps {tensor.name!r} in the file {about.get('location', '')!r}"
    if folder is None:
        raise FileFormatError(f"{what}: a network that is not opened by its path must hold all of its weights.")
    try:
        file = (folder / location).resolve()
        inside = file.is_relative_to(folder.resolve()) and not Path(location).is_absolute()
        size = file.stat().st_size if inside and file.is_file() else -1
        end = int(about.get("offset", 0)) + int(about.get("length", 0))
        fits = min(int(about.get("offset", 0)), int(about.get("length", 0))) >= 0 and end <= size
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, a circle of links, an offset that is no number
        inside, size, fits = True, -1, False
    if not inside:
        raise FileFormatError(f"{what}, which lies outside of its folder: nothing is read from there.")
    if not fits:
        raise FileFormatError(f"{what}, which {'is too short for it' if size >= 0 else 'does not exist'}.")
