"""Files without words that only a reader of the graph needs, and without what a runtime makes by itself: for shipping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from slimnet.onnx.write import checked, serialised

LARGEST = 2**19
"""Whole numbers of biases that are written in float32 lie below: divided by the scale again, they are the nearest."""
_DEFAULTS = {"dilations": (1,), "group": (1,), "pads": (0,), "strides": (1,), "auto_pad": (b"NOTSET",)}
_DIGITS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def shortened(data: bytes, name: str) -> bytes:
    """The bytes of the same network with one of equal constants, without zero points that are zero, with biases as plain numbers,
    without attributes that say the default, and with short names; those of inputs and outputs stay.

    In an int8 file of a small network these are many of the bytes. The network computes the same, bit for bit. Files with
    subgraphs stay as they are.

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
    _write_out_biases(net)
    _drop_unread(net)
    _drop_defaults(net)
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
    readers = _readers(net)
    for node in net.node:
        kinds = {None if reader is None else reader.op_type for reader in readers.get(node.output[0], ())}
        if node.op_type != "DequantizeLinear" or len(node.input) < 3 or kinds != {"Conv"}:
            continue
        weight, point = held.get(node.input[0]), held.get(node.input[2])
        if weight is not None and point is not None and not numpy_helper.to_array(point).any():
            del node.input[2]


def _write_out_biases(net: onnx.GraphProto) -> None:
    """Give convolutions and matrix products biases in float32 in place of whole numbers, each with a scale.

    ONNX Runtime makes the same whole numbers of them again, by the scales of the input and of the weights, where their product is
    the scale of the bias and the layer is computed in whole numbers (its optimiser WeightBiasQuantization, from 1.21). Large ones
    stay: float32 would not hold their last digit.
    """
    held = {tensor.name: tensor for tensor in net.initializer}
    made = {value: node for node in net.node for value in node.output}
    readers = _readers(net)
    plain = dict[str, np.ndarray[Any, Any]]()
    for node in net.node:
        if node.op_type not in ("Conv", "Gemm") or node.domain or len(node.input) != 3 or not _is_whole(node, readers):
            continue
        bias, scales = made.get(node.input[2]), [_scale_of(made.get(value), held) for value in node.input]
        scaled = any(attribute.name in ("alpha", "beta") and attribute.f != 1 for attribute in node.attribute)
        if bias is None or scaled or any(scale is None for scale in scales) or len(readers[node.input[2]]) != 1:
            continue
        whole, (left, right, own) = held.get(bias.input[0]), scales
        point = held.get(bias.input[2]) if len(bias.input) > 2 else None
        if point is not None and numpy_helper.to_array(point).any():
            continue
        if whole is None or whole.data_type != onnx.TensorProto.INT32 or len(whole.dims) != 1:
            continue
        numbers = numpy_helper.to_array(whole)
        if np.allclose(left * right, own, rtol=4 * np.finfo(np.float32).eps, atol=0) and np.abs(numbers).max(initial=0) < LARGEST:
            plain[node.input[2]] = numbers.astype(np.float32) * own
    kept = [node for node in net.node if node.output[0] not in plain]
    net.ClearField("node")
    net.node.extend(kept)
    net.initializer.extend(numpy_helper.from_array(values, name) for name, values in plain.items())


def _readers(net: onnx.GraphProto) -> dict[str, list[onnx.NodeProto | None]]:
    """What reads each value, as often as it does; None for the user of an output."""
    found: dict[str, list[onnx.NodeProto | None]] = {}
    for node in net.node:
        for value in node.input:
            found.setdefault(value, []).append(node)
    for output in net.output:
        found.setdefault(output.name, []).append(None)
    return found


def _is_whole(node: onnx.NodeProto, readers: Mapping[str, Sequence[onnx.NodeProto | None]]) -> bool:
    """Whether what a layer gives goes to whole numbers alone, at most through an activation that they have, too."""
    while True:
        found = readers.get(node.output[0], ())
        if len(found) != 1 or found[0] is None:
            return False
        node = found[0]
        if node.op_type not in ("Relu", "Clip"):
            return node.op_type == "QuantizeLinear"


def _scale_of(node: onnx.NodeProto | None, held: Mapping[str, onnx.TensorProto]) -> Any:
    """The scale by which a value was brought back to float32; None of any other value."""
    if node is None or node.op_type != "DequantizeLinear" or node.input[1] not in held:
        return None
    return numpy_helper.to_array(held[node.input[1]])


def _drop_unread(net: onnx.GraphProto) -> None:
    read = {value for node in net.node for value in node.input} | {value.name for value in (*net.input, *net.output)}
    kept = [tensor for tensor in net.initializer if tensor.name in read]
    net.ClearField("initializer")
    net.initializer.extend(kept)


def _drop_defaults(net: onnx.GraphProto) -> None:
    """Leave out what convolutions take anyhow where nothing is said."""
    for node in net.node:
        if node.op_type == "Conv" and not node.domain:
            told = [attribute for attribute in node.attribute if _value(attribute) not in _DEFAULTS.get(attribute.name, ())]
            node.ClearField("attribute")
            node.attribute.extend(told)


def _value(attribute: onnx.AttributeProto) -> Any:
    """A value, or of a list the only value in it; the list where it holds several."""
    value = onnx.helper.get_attribute_value(attribute)
    return next(iter(set(value))) if isinstance(value, list) and len(set(value)) == 1 else value


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
