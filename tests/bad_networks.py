"""ONNX files that are no honest classifiers of pictures, each a few hundred bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
ENDLESS = 2**62
Make = Callable[["Shape"], onnx.ModelProto]


@dataclass(frozen=True)
class Shape:
    """What a network is to fit: grey pictures in, classes out."""

    side: int
    classes: int


@dataclass
class Parts:
    """A network from ``x`` to ``y``, to be changed before it is put together."""

    shape: Shape
    batch: Any = "batch"
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    functions: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)

    def constant(self, name: str, value: Any, dtype: Any = np.int64) -> str:
        self.initializers.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str = "", **more: Any) -> str:
        output = output or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **more))
        return output

    def classify(self, name: str, output: str = "y") -> str:
        """From pictures to one number a class."""
        flat = self.node("Flatten", [name])
        weight = self.constant(f"w{len(self.nodes)}", np.full((self.shape.side**2, self.shape.classes), 0.01), np.float32)
        return self.node("MatMul", [flat, weight], output)

    def model(self) -> onnx.ModelProto:
        side, classes = self.shape.side, self.shape.classes
        given = self.inputs or [helper.make_tensor_value_info("x", FLOAT, [self.batch, 1, side, side])]
        made = self.outputs or [helper.make_tensor_value_info("y", FLOAT, [self.batch, classes])]
        graph = helper.make_graph(self.nodes, "g", given, made, self.initializers)
        sets = [helper.make_opsetid("", 18), *([helper.make_opsetid("own", 1)] if self.functions else [])]
        return helper.make_model(graph, opset_imports=sets, functions=self.functions, ir_version=10)


def honest(shape: Shape) -> onnx.ModelProto:
    parts = Parts(shape)
    parts.classify("x")
    return parts.model()


def without_answer(shape: Shape) -> onnx.ModelProto:
    """NaN for pictures that are darker than the mean."""
    parts = Parts(shape)
    parts.node("Sqrt", [parts.classify("x", "sums")], "y")
    return parts.model()


def integer_input(shape: Shape) -> onnx.ModelProto:
    parts = Parts(shape)
    parts.inputs = [helper.make_tensor_value_info("x", INT64, ["batch", 1, shape.side, shape.side])]
    parts.classify(parts.node("Cast", ["x"], to=FLOAT))
    return parts.model()


def two_inputs(shape: Shape) -> onnx.ModelProto:
    parts = Parts(shape)
    parts.inputs = [helper.make_tensor_value_info(name, FLOAT, ["batch", 1, shape.side, shape.side]) for name in "xz"]
    parts.classify(parts.node("Add", ["x", "z"]))
    return parts.model()


def no_input(shape: Shape) -> onnx.ModelProto:
    parts = honest(shape)
    parts.graph.input.pop()
    parts.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, shape.side, shape.side), np.float32), "x"))
    return parts


def fixed_batch(size: int) -> Make:
    def make(shape: Shape) -> onnx.ModelProto:
        parts = Parts(shape, batch=size)
        parts.classify("x")
        return parts.model()

    return make


def unknown_rank(shape: Shape) -> onnx.ModelProto:
    model = honest(shape)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


def text_output(shape: Shape) -> onnx.ModelProto:
    parts = Parts(shape)
    parts.outputs = [helper.make_tensor_value_info("y", STRING, ["batch", shape.classes])]
    parts.node("Cast", [parts.classify("x", "numbers")], "y", to=STRING)
    return parts.model()


def several_outputs(shape: Shape) -> onnx.ModelProto:
    model = honest(shape)
    model.graph.output.append(helper.make_tensor_value_info("x", FLOAT, ["batch", 1, shape.side, shape.side]))
    return model


def sequence_output(shape: Shape) -> onnx.ModelProto:
    parts = Parts(shape)
    parts.outputs = [helper.make_tensor_sequence_value_info("y", FLOAT, ["batch", shape.classes])]
    parts.node("SequenceConstruct", [parts.classify("x", "numbers")], "y")
    return parts.model()


def maps_for_output(shape: Shape) -> onnx.ModelProto:
    parts = Parts(shape)
    parts.outputs = [helper.make_tensor_value_info("y", FLOAT, ["batch", shape.classes, 1, 1])]
    parts.node("Unsqueeze", [parts.classify("x", "numbers"), parts.constant("axes", [2, 3])], "y")
    return parts.model()


def one_row_for_all(shape: Shape) -> onnx.ModelProto:
    """It says that it gives a row for each picture, and gives two."""
    parts = Parts(shape)
    rows = parts.node("ReduceMean", [parts.classify("x", "numbers"), parts.constant("axes", [0])], keepdims=1)
    parts.node("Concat", [rows, rows], "y", axis=0)
    return parts.model()


def failing_node(shape: Shape) -> onnx.ModelProto:
    parts = Parts(shape)
    parts.classify(parts.node("Reshape", ["x", parts.constant("shape", [999, 1, shape.side, shape.side])]))
    return parts.model()


def huge_allocation(shape: Shape) -> onnx.ModelProto:
    """Its size is known only while it runs."""
    parts = Parts(shape)
    size = parts.node("Mul", [parts.node("Shape", ["x"]), parts.constant("times", [10**5])])
    total = parts.node("ReduceSum", [parts.node("ConstantOfShape", [size])], keepdims=0)
    parts.classify(parts.node("Add", ["x", total]))
    return parts.model()


def overflowing_allocation(shape: Shape) -> onnx.ModelProto:
    """More bytes than a number of 64 bits counts: the runtime tells its own log first."""
    parts = Parts(shape)
    total = parts.node("ReduceSum", [parts.node("ConstantOfShape", [parts.constant("size", [2**62])])], keepdims=0)
    parts.classify(parts.node("Add", ["x", total]))
    return parts.model()


def unknown_operator(shape: Shape) -> onnx.ModelProto:
    parts = Parts(shape)
    parts.classify(parts.node("NoSuchOperator", ["x"]))
    return parts.model()


def unknown_domain(shape: Shape) -> onnx.ModelProto:
    parts = Parts(shape)
    parts.classify(parts.node("Relu", ["x"], domain="nowhere"))
    model = parts.model()
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    return model


def endless_loop(*, is_empty: bool = False) -> Make:
    """2⁶² times a node, between which the runtime can be stopped, or nothing at all."""

    def make(shape: Shape) -> onnx.ModelProto:
        parts = Parts(shape)
        pair = [("i", INT64, []), ("on", BOOL, []), ("v", FLOAT, None)]
        given = [helper.make_tensor_value_info(*each) for each in pair]
        result = "v" if is_empty else "w"
        nodes = [] if is_empty else [helper.make_node("Relu", ["v"], ["w"])]
        made = [given[1], helper.make_tensor_value_info(result, FLOAT, None)]
        body = helper.make_graph(nodes, "body", given, made)
        times, true = parts.constant("times", ENDLESS), parts.constant("true", True, np.bool_)
        parts.classify(parts.node("Loop", [times, true, "x"], body=body))
        return parts.model()

    return make


def _function(name: str, calls: Sequence[str]) -> Any:
    """``calls`` one after the other."""
    names = ["a", *(f"m{i}" for i in range(1, len(calls))), "b"]
    nodes = [
        helper.make_node(call, [names[i]], [names[i + 1]], domain="" if call == "Relu" else "own") for i, call in enumerate(calls)
    ]
    return helper.make_function("own", name, ["a"], ["b"], nodes, [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)])


def functions(*bodies: Sequence[str]) -> Make:
    """Function ``f0``, ``f1`` …, of which the last is called."""

    def make(shape: Shape) -> onnx.ModelProto:
        parts = Parts(shape)
        parts.functions = [_function(f"f{i}", body) for i, body in enumerate(bodies)]
        parts.classify(parts.node(f"f{len(bodies) - 1}", ["x"], domain="own"))
        return parts.model()

    return make


def doubling(deep: int) -> Make:
    return functions(["Relu"], *([f"f{i}", f"f{i}"] for i in range(deep)))


def nested_graphs(deep: int) -> Make:
    """Each of the two branches holds the next."""

    def make(shape: Shape) -> onnx.ModelProto:
        parts = Parts(shape)
        true = parts.constant("true", True, np.bool_)
        result = [helper.make_tensor_value_info("r", FLOAT, None)]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "leaf", [], result)
        for _ in range(deep):
            node = helper.make_node("If", [true], ["r"], then_branch=graph, else_branch=graph)
            graph = helper.make_graph([node], "g", [], result)
        parts.classify(parts.node("If", [true], then_branch=graph, else_branch=graph))
        return parts.model()

    return make


def declared(shape_of_it: Sequence[int], *, as_input: bool = False) -> Make:
    """A tensor that is said to be so large."""

    def make(shape: Shape) -> onnx.ModelProto:
        model = honest(shape)
        value = helper.make_tensor_value_info("large", FLOAT, list(shape_of_it))
        (model.graph.input if as_input else model.graph.value_info).append(value)
        return model

    return make


def sparse(size: int) -> Make:
    """A sparse tensor of one value."""

    def make(shape: Shape) -> onnx.ModelProto:
        values, places = numpy_helper.from_array(np.ones(1, np.float32), "sparse"), numpy_helper.from_array(np.zeros(1, np.int64))
        model = honest(shape)
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [size]))
        return model

    return make


def outside(location: str, offset: Any = 0, length: Any = 4) -> Make:
    """A weight that is said to lie in another file."""

    def make(shape: Shape) -> onnx.ModelProto:
        parts = Parts(shape)
        parts.classify(parts.node("Add", ["x", "far"]))
        model = parts.model()
        tensor = TensorProto(name="far", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(tensor)
        return model

    return make


def in_a_constant(make: Make) -> Make:
    """The same, the weight in a node."""

    def moved(shape: Shape) -> onnx.ModelProto:
        model = make(shape)
        tensor = model.graph.initializer.pop()
        model.graph.node.insert(0, helper.make_node("Constant", [], ["far"], value=tensor))
        return model

    return moved


def saved(make: Make, path: Path, shape: Shape) -> Path:
    path.write_bytes(make(shape).SerializeToString())
    return path
