"""An ONNX file as a list of operators and constants. Protobuf stays in the room."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from slimnet.errors import FileFormatError, one_line
from slimnet.onnx.file import MAX_GIVEN, MAX_RANK, read_network
from slimnet.onnx.write import serialised

Array = NDArray[Any]
OnnxModel = onnx.ModelProto

OLDEST = 7
"""Below, element-wise operators broadcast by a rule of their own."""
QUANTISED = frozenset(
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger".split()
)
RANDOM = frozenset("Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split())
_GROWS = frozenset("ConstantOfShape Expand EyeLike OneHot Pad Range Resize Tile Upsample".split())
"""Operators that may make much of little."""
_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, eq=False)
class Op:
    """One node.

    Attributes:
        index: its place among the nodes.
        name: as in the file, or its first output.
        kind: the operator; with its domain where that is not ONNX's own.
        inputs: values it reads, "" for one that is left out.
        outputs: values it makes.
        attributes: numbers, strings and arrays by name.
        captured: values that graphs within it read from outside.
    """

    index: int
    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    captured: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """All values that it reads."""
        return tuple(name for name in (*self.inputs, *self.captured) if name)

    def get(self, name: str, default: Any) -> Any:
        """An attribute, or the operator's default."""
        return self.attributes.get(name, default)


@dataclass(frozen=True)
class Input:
    """An input of a network: ``shape`` has None for each size that is open; it is None where nothing is said of it."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, eq=False)
class Program:
    """What an ONNX file computes.

    Attributes:
        ops: in an order in which they can run; those that read constants alone are folded into ``constants``.
        constants: by name.
        inputs: those that are no constants.
        outputs: names.
        opset: of ONNX's own operators.
    """

    ops: tuple[Op, ...]
    constants: Mapping[str, Array]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    opset: int


class Document:
    """An ONNX file that is read, and can be written with changes.

    Args:
        source: the file (weights may lie beside it), its content, or the parsed model.
        name: what an error calls it.

    Raises:
        FileFormatError: if it is no ONNX file, asks for more than `slimnet.onnx.file` allows, or is of an opset below 7.
    """

    def __init__(self, source: Path | bytes | onnx.ModelProto, name: str | None = None) -> None:
        self.name = name or (str(source) if isinstance(source, Path) else "the ONNX model")
        data = serialised(source) if isinstance(source, onnx.ModelProto) else source
        proto = read_network(data, self.name)
        if isinstance(source, Path):
            onnx.external_data_helper.load_external_data_for_model(proto, str(source.parent))
        try:
            self._proto = onnx.inliner.inline_local_functions(proto) if proto.functions else proto
        except Exception as error:  # its errors share no base class
            raise FileFormatError(f"{self.name} has functions that cannot be put in: {one_line(error)}") from None
        self.opset = max((entry.version for entry in proto.opset_import if entry.domain in _DOMAINS), default=0)
        if not proto.graph.node:
            raise FileFormatError(f"{self.name} holds no network: it has no nodes.")
        if proto.graph.sparse_initializer:
            raise FileFormatError(f"{self.name} has sparse weights, which are not read: write them out.")
        if self.opset < OLDEST:
            raise FileFormatError(
                f"{self.name} is of opset {self.opset}, at least {OLDEST} is read: convert it (onnx.version_converter)."
            )

    @property
    def computes_weights(self) -> bool:
        """Whether nodes compute constants from others, by more than moving them: what is cut of these is stored anew."""
        moves = {"Constant", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "CastLike"}
        known = {tensor.name for tensor in self._proto.graph.initializer}
        found = False
        for node in self._proto.graph.node:
            if all(name in known for name in node.input if name):
                known.update(node.output)
                found = found or node.op_type not in moves
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> Document:
        """Itself: nobody changes it."""
        return self

    def program(self) -> Program:
        """What the file computes.

        Raises:
            FileFormatError: if a node reads what nobody makes, or constants are computed that are larger than is allowed.
        """
        graph = self._proto.graph
        constants = {tensor.name: _array(tensor, self.name) for tensor in graph.initializer}
        inputs = tuple(_input(value) for value in graph.input if value.name not in constants)
        known = {*constants, *(each.name for each in inputs)}
        ops, made = [], 0
        for index, node in enumerate(graph.node):
            op = _op(index, node)
            missing = [name for name in op.reads if name not in known]
            if missing:
                raise FileFormatError(f"{self.name}: node {op.name!r} reads {missing[0]!r}, which no node before it makes.")
            known.update(op.outputs)
            if not self._folded(op, node, constants):
                ops.append(op)
                continue
            made += sum(constants[name].size for name in op.outputs if name)
            if made > MAX_GIVEN:
                raise FileFormatError(f"{self.name} computes constants of more than {MAX_GIVEN:,} values: it is not opened.")
        return Program(tuple(ops), constants, inputs, tuple(value.name for value in graph.output), self.opset)

    def _folded(self, op: Op, node: onnx.NodeProto, constants: dict[str, Array]) -> bool:
        """Whether a node reads constants alone; its outputs are constants then."""
        if op.kind == "CastLike" and op.inputs[0] in constants and constants[op.inputs[0]].dtype.kind == "f":
            constants[op.outputs[0]] = constants[op.inputs[0]]  # a network has one kind of floating-point numbers
            return True
        if op.kind in RANDOM or not all(name in constants for name in op.reads) or op.captured or not op.outputs:
            return False
        try:
            found = evaluate(op, [constants[name] if name else None for name in op.inputs], self.opset, node)
        except FileFormatError as error:  # torch must not compute it either
            raise FileFormatError(f"{self.name}: {error}") from None
        except Exception:  # the reference's errors share no base class
            return False
        constants.update({name: value for name, value in zip(op.outputs, found, strict=True) if name})
        return True

    def quantised(self) -> str:
        """The first operator that works on quantised numbers, "" for none."""
        return next((node.op_type for node in self._proto.graph.node if node.op_type in QUANTISED), "")

    @property
    def proto(self) -> onnx.ModelProto:
        """As it was read, functions put in."""
        return self._proto


def evaluate(op: Op, arrays: Sequence[Array | None], opset: int, node: onnx.NodeProto | None = None) -> list[Array]:
    """What one operator makes of arrays, by onnx's reference.

    Raises:
        FileFormatError: if it makes more than `slimnet.onnx.file` allows of one tensor that is given, or nobody knows how much.
        Exception: whatever the reference raises.
    """
    node = node or _node(op)
    given = {name: array for name, array in zip(op.inputs, arrays, strict=True) if name and array is not None}
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in op.outputs if name]
    graph = onnx.helper.make_graph([node], "one", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    _check_made(model, given, op)
    found = iter(ReferenceEvaluator(model).run(None, given))
    return [np.asarray(next(found)) if name else np.empty(0) for name in op.outputs]


def _check_made(model: onnx.ModelProto, given: Mapping[str, Array], op: Op) -> None:
    """Refuse a node of a few bytes that makes gigabytes."""
    small = {name: array for name, array in given.items() if array.size <= MAX_RANK}
    inferred = onnx.ModelProto()
    inferred.CopyFrom(model)
    inferred.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in small.items())
    made = onnx.shape_inference.infer_shapes(inferred).graph.output
    for value in made:
        dims = value.type.tensor_type.shape.dim
        is_known = value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims)
        size = prod(dim.dim_value for dim in dims) if is_known else sum(array.size for array in given.values())
        if size > MAX_GIVEN or (not is_known and op.kind in _GROWS):
            raise FileFormatError(
                f"node {op.name!r} ({op.kind}) makes a constant of {size:,} values or more: it is not computed."
            )


def _node(op: Op) -> onnx.NodeProto:
    given = {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in op.attributes.items()
    }
    return onnx.helper.make_node(op.kind, op.inputs, op.outputs, op.name, **given)


def _op(index: int, node: onnx.NodeProto) -> Op:
    plain = {item.name: _attribute(item) for item in node.attribute if not item.HasField("g") and not item.graphs}
    return Op(
        index=index,
        name=node.name or next((name for name in node.output if name), f"node {index}"),
        kind=node.op_type if node.domain in _DOMAINS else f"{node.domain}.{node.op_type}",
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes=plain,
        captured=tuple(dict.fromkeys(captured(node))),
    )


def _attribute(item: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(item)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def captured(node: onnx.NodeProto) -> Iterator[str]:
    """What graphs within a node read from outside."""
    for item in node.attribute:
        for graph in [*([item.g] if item.HasField("g") else []), *item.graphs]:
            made = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            for inner in graph.node:
                yield from (name for name in (*inner.input, *captured(inner)) if name and name not in made)
                made.update(inner.output)
            yield from (value.name for value in graph.output if value.name not in made)


def _array(tensor: onnx.TensorProto, name: str) -> Array:
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except Exception as error:
        raise FileFormatError(f"{name}: the constant {tensor.name!r} cannot be read: {one_line(error)}") from None


def _input(value: onnx.ValueInfoProto) -> Input:
    kind = value.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    except KeyError:
        raise FileFormatError(f"input {value.name!r} is no tensor of numbers.") from None
    sizes = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim]
    return Input(value.name, dtype, tuple(sizes) if kind.HasField("shape") else None)
