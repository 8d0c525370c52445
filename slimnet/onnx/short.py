"""Files without words that only a reader of the graph needs: for shipping."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import onnx
from onnx import numpy_helper

from slimnet.onnx.write import checked, serialised

_DIGITS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def shortened(data: bytes, name: str) -> bytes:
    """The bytes of the same network with one of equal constants, without zero points that are zero, and with short names; those
    of inputs and outputs stay.

    In an int8 file of a small network names are many of the bytes. The network computes the same, bit for bit. Files with
    subgraphs keep their names.

    Args:
        data: an ONNX file.
        name: what an error calls it.

    Raises:
        ExportError: if the result is not valid ONNX.
    """
    proto = onnx.load_from_string(data)
    net = proto.graph
    if any(attribute.HasField("g") or attribute.graphs for node in net.node for attribute in node.attribute):
        return data
    _drop_zeros(net)
    short = {value.name: value.name for value in (*net.input, *net.output)} | {"": ""}
    names = _names(set(short))
    held, first = list(net.initializer), dict[bytes, str]()
    net.ClearField("initializer")
    for tensor in held:
        value, tensor.name = tensor.name, ""
        same = serialised(tensor)
        if value not in short and same in first:
            short[value] = first[same]
            continue
        tensor.name = _given(short, value, names)
        net.initializer.append(tensor)
        first.setdefault(same, tensor.name)
    for node in net.node:
        node.name = ""
        for field in (node.output, node.input):
            field[:] = [_given(short, value, names) for value in field]
    net.ClearField("value_info")
    return checked(proto, name)


def _drop_zeros(net: onnx.GraphProto) -> None:
    """Leave out the zero points of convolutions' weights and biases that are zero: so much is taken where there is none.

    ONNX Runtime computes convolutions in int8 as before. Matrix products it would compute in float32: these keep theirs.
    """
    held = {tensor.name: tensor for tensor in net.initializer}
    fixed = {value.name for value in (*net.input, *net.output)}
    readers: dict[str, set[str]] = {}
    for node in net.node:
        for value in node.input:
            readers.setdefault(value, set()).add(node.op_type)
    for node in net.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3 or readers.get(node.output[0]) != {"Conv"}:
            continue
        weight, point = held.get(node.input[0]), held.get(node.input[2])
        if weight is not None and point is not None and not numpy_helper.to_array(point).any():
            del node.input[2]
    read = {value for node in net.node for value in node.input} | fixed
    kept = [tensor for tensor in net.initializer if tensor.name in read]
    net.ClearField("initializer")
    net.initializer.extend(kept)


def _given(short: dict[str, str], value: str, names: Iterator[str]) -> str:
    """The short name of a value, and a new one where it has none yet."""
    if value not in short:
        short[value] = next(names)
    return short[value]


def _names(taken: set[str]) -> Iterator[str]:
    """a, b … Z, aa, ab …, without what is taken."""
    for number in count():
        text, left = "", number
        while True:
            text = _DIGITS[left % len(_DIGITS)] + text
            left = left // len(_DIGITS) - 1
            if left < 0:
                break
        if text not in taken:
            yield text
