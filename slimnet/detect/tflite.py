"""A .tflite file of a detector as a network for ONNX Runtime: the operators that BlazeFace has, of any size of picture.

The format is flatbuffers with TensorFlow Lite's schema (tensorflow/lite/schema/schema.fbs, version 3); the numbers of fields,
operators and types below are those of that schema. slimnet reads a file whose checksum it knows, so what is read is known, too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimnet.errors import FileFormatError
from slimnet.onnx.build import Shape, network, node
from slimnet.onnx.write import checked

OPSET, IR_VERSION = 17, 8
INPUT = "input"
_TYPES = {0: np.float32, 1: np.float16, 2: np.int32}
_ADD, _CONCATENATION, _CONV, _DEPTHWISE, _DEQUANTIZE, _MAX_POOL, _RELU, _RESHAPE, _RESIZE, _PAD = (
    0,
    2,
    3,
    4,
    6,
    17,
    19,
    22,
    23,
    34,
)
_FLOAT = 1  # of ONNX's `TensorProto.DataType`
_WORTH = 64  # numbers: a smaller constant is not worth a cast
_SAME = 0  # of `Padding`
_PLAIN, _WITH_RELU = 0, 1  # of `ActivationFunctionType`


class _Table:
    """A table of a flatbuffer: its fields, by their numbers in the schema."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._fields = place - self._unpack("<i", place)
        self._size = self._unpack("<H", self._fields)

    def _unpack(self, kind: str, place: int) -> int:
        value: int = struct.unpack_from(kind, self._data, place)[0]
        return value

    def _at(self, number: int) -> int:
        """Where a field stands; 0 where it has its default."""
        slot = 4 + 2 * number
        offset = self._unpack("<H", self._fields + slot) if slot < self._size else 0
        return self._place + offset if offset else 0

    def _target(self, number: int) -> int:
        """Where what a field refers to stands; 0 where it refers to nothing."""
        place = self._at(number)
        return place + self._unpack("<I", place) if place else 0

    def number(self, number: int, kind: str, default: int = 0) -> int:
        place = self._at(number)
        return self._unpack(kind, place) if place else default

    def table(self, number: int) -> _Table:
        return _Table(self._data, self._target(number))

    def tables(self, number: int) -> list[_Table]:
        place = self._target(number)
        count = self._unpack("<I", place) if place else 0
        return [_Table(self._data, at + self._unpack("<I", at)) for at in range(place + 4, place + 4 + 4 * count, 4)]

    def array(self, number: int, kind: Any) -> NDArray[Any]:
        place = self._target(number)
        count = self._unpack("<I", place) if place else 0
        return np.frombuffer(self._data, kind, count, place + 4)


@dataclass
class _Network:
    """ONNX nodes in the making.

    Attributes:
        values: number of a tensor of the file → name of the map that stands for it.
        known: … → its content, of constants that are stored in another type.
        ends: maps (N, C, H, W) that the file gives, or brings into rows at its end, in their order: name → channels.
    """

    tensors: list[_Table]
    buffers: list[_Table]
    values: dict[int, str]
    known: dict[int, NDArray[Any]] = field(default_factory=dict)
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)

    def shape(self, index: int) -> list[int]:
        found: list[int] = self.tensors[index].array(0, np.int32).tolist()
        return found

    def content(self, index: int) -> NDArray[Any]:
        if index in self.known:
            return self.known[index]
        tensor = self.tensors[index]
        raw = self.buffers[tensor.number(2, "<I")].array(0, np.uint8)
        return np.frombuffer(raw.tobytes(), _TYPES[tensor.number(1, "<b")]).reshape(self.shape(index))

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.constants[name] = np.ascontiguousarray(array)
        return name

    def put(self, op: str, inputs: list[str], index: int, activation: int = _PLAIN, **attributes: Any) -> None:
        """A node that computes a tensor, and the activation behind it."""
        name = f"t{index}"
        if activation not in (_PLAIN, _WITH_RELU):
            raise FileFormatError(f"the detector's file has activation {activation}, which has no rule.")
        before = name if activation == _PLAIN else f"{name}.linear"
        self.nodes.append(node(op, inputs, before, **attributes))
        if activation == _WITH_RELU:
            self.nodes.append(node("Relu", [before], name))
        self.values[index] = name


def to_onnx(data: bytes, *, half: bool = False) -> bytes:
    """Write a .tflite file of a convolutional detector as ONNX.

    Convolutions, additions, pools, paddings and resizings are kept as they are; the reshapings at the end are left out, so
    that pictures may have any size.

    Args:
        data: one input (1, H, W, C); weights in 32 or 16 bits.
        half: store weights that 16 bits hold exactly in 16 bits; the network casts them, and computes the same. Half as large.

    Returns:
        The file: ``input`` (N, C, H, W) in; out come the maps (N, channels, h, w) that the given file has before they are made
        rows of, in its order.

    Raises:
        FileFormatError: if the file cannot be read, or has an operator that has no rule.
    """
    try:
        made = _read(data)
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise FileFormatError(f"the detector's file is not one that can be read ({error}).") from None
    if half:
        _halve(made)
    outputs: dict[str, Shape] = {name: ["n", channels, f"h{i}", f"w{i}"] for i, (name, channels) in enumerate(made.ends.items())}
    proto = network(
        made.nodes,
        inputs={INPUT: ["n", 3, "h", "w"]},
        outputs=outputs,
        constants=made.constants,
        opset=OPSET,
        ir_version=IR_VERSION,
        name="detector",
    )
    return checked(proto, "the detector")


def _halve(made: _Network) -> None:
    """Store in 16 bits what they hold exactly, in place."""
    casts = []
    for name, array in list(made.constants.items()):
        with np.errstate(over="ignore"):
            short = array.astype(np.float16)
        if array.dtype == np.float32 and array.size >= _WORTH and np.array_equal(short.astype(np.float32), array):
            del made.constants[name]
            casts.append(node("Cast", [made.constant(f"{name}.half", short)], name, to=_FLOAT))
    made.nodes[:0] = casts


def _read(data: bytes) -> _Network:
    file = _Table(data, struct.unpack_from("<I", data)[0])
    codes = [max(code.number(0, "<b"), code.number(3, "<i")) for code in file.tables(1)]
    graph = file.tables(2)[0]
    made = _Network(graph.tables(0), file.tables(4), {int(graph.array(1, np.int32)[0]): INPUT})
    for operator in graph.tables(3):
        code = codes[operator.number(0, "<I")]
        if code not in _RULES:
            raise FileFormatError(f"the detector's file has operator {code}, which has no rule.")
        inputs, (output,) = operator.array(1, np.int32).tolist(), operator.array(2, np.int32).tolist()
        _RULES[code](made, operator, inputs, output)
    for index in graph.array(2, np.int32).tolist():
        if index in made.values:  # a map of its own, no rows
            made.ends[made.values[index]] = made.shape(index)[3]
    return made


def _convolution(made: _Network, operator: _Table, inputs: list[int], output: int) -> None:
    weight = made.content(inputs[1]).transpose(0, 3, 1, 2)
    _put_convolution(made, operator.table(4), inputs, output, weight, groups=1, activation=3)


def _depthwise(made: _Network, operator: _Table, inputs: list[int], output: int) -> None:
    weight = made.content(inputs[1]).transpose(3, 0, 1, 2)
    _put_convolution(made, operator.table(4), inputs, output, weight, groups=len(weight), activation=4)


def _put_convolution(
    made: _Network,
    options: _Table,
    inputs: list[int],
    output: int,
    weight: NDArray[Any],
    *,
    groups: int,
    activation: int,
) -> None:
    name = f"t{output}"
    bias = made.content(inputs[2]).astype(np.float32)
    made.put(
        "Conv",
        [
            made.values[inputs[0]],
            made.constant(f"{name}.weight", weight.astype(np.float32)),
            made.constant(f"{name}.bias", bias),
        ],
        output,
        options.number(activation, "<b"),
        strides=[options.number(2, "<i", 1), options.number(1, "<i", 1)],
        group=groups,
        kernel_shape=list(weight.shape[2:]),
        auto_pad=_padding(options),
    )


def _max_pool(made: _Network, operator: _Table, inputs: list[int], output: int) -> None:
    options = operator.table(4)
    strides, kernel = ([options.number(a, "<i", 1), options.number(b, "<i", 1)] for a, b in ((2, 1), (4, 3)))
    made.put("MaxPool", [made.values[inputs[0]]], output, strides=strides, kernel_shape=kernel, auto_pad=_padding(options))


def _add(made: _Network, operator: _Table, inputs: list[int], output: int) -> None:
    made.put("Add", [made.values[index] for index in inputs], output, operator.table(4).number(0, "<b"))


def _relu(made: _Network, operator: _Table, inputs: list[int], output: int) -> None:
    made.put("Relu", [made.values[inputs[0]]], output)


def _pad(made: _Network, operator: _Table, inputs: list[int], output: int) -> None:
    around = made.content(inputs[1])[[0, 3, 1, 2]].astype(np.int64)  # of (N, H, W, C): before and after
    made.put("Pad", [made.values[inputs[0]], made.constant(f"t{output}.pads", around.T.ravel())], output)


def _resize(made: _Network, operator: _Table, inputs: list[int], output: int) -> None:
    options, (old, new) = operator.table(4), (made.shape(index)[1:3] for index in (inputs[0], output))
    if not options.number(3, "<b") or options.number(2, "<b"):  # half_pixel_centers, align_corners
        raise FileFormatError("the detector's file resizes in a way that has no rule.")
    factors = np.array([1, 1, new[0] / old[0], new[1] / old[1]], np.float32)
    scales = made.constant(f"t{output}.scales", factors)
    made.put("Resize", [made.values[inputs[0]], "", scales], output, mode="linear", coordinate_transformation_mode="half_pixel")


def _dequantize(made: _Network, operator: _Table, inputs: list[int], output: int) -> None:
    made.known[output] = made.content(inputs[0])


def _end(made: _Network, operator: _Table, inputs: list[int], output: int) -> None:
    made.ends[made.values[inputs[0]]] = made.shape(inputs[0])[3]


def _joined(made: _Network, operator: _Table, inputs: list[int], output: int) -> None:
    """Rows of several maps become one table: the maps are the outputs."""


def _padding(options: _Table) -> str:
    return "SAME_UPPER" if options.number(0, "<b") == _SAME else "VALID"


_RULES = {
    _ADD: _add,
    _CONCATENATION: _joined,
    _CONV: _convolution,
    _DEPTHWISE: _depthwise,
    _DEQUANTIZE: _dequantize,
    _MAX_POOL: _max_pool,
    _RELU: _relu,
    _RESHAPE: _end,
    _RESIZE: _resize,
    _PAD: _pad,
}
