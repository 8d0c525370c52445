"""Operators that say the same in another way in older operator sets: one function each changes the node, in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from slimnet.onnx.lower.context import CannotLowerError, Context, argument, attribute, drop, give, inputs

Change = Callable[[onnx.NodeProto, Context], None]


def axes_as_attribute(node: onnx.NodeProto, context: Context) -> None:
    """Axes were an attribute; none of them meant all."""
    name, noop = argument(node, 1), attribute(node, "noop_with_empty_axes", 0)
    axes = context.integers(name) if name else []
    if axes is None:
        raise CannotLowerError("has axes that are computed")
    drop(node, "noop_with_empty_axes")
    inputs(node, node.input[:1])
    if axes:
        give(node, "axes", axes)
    elif noop:
        drop(node, "keepdims")
        node.op_type = "Identity"


def sizes_as_attribute(node: onnx.NodeProto, context: Context) -> None:
    """Sizes of the pieces were an attribute of Split."""
    name = argument(node, 1)
    if not name:
        return
    sizes = context.integers(name)
    if sizes is None:
        raise CannotLowerError("has sizes that are computed")
    inputs(node, node.input[:1])
    give(node, "split", sizes)


def equal_pieces(node: onnx.NodeProto, context: Context) -> None:
    """Split made as many equal pieces as it has outputs; where the last is smaller, sizes have to be told."""
    count = attribute(node, "num_outputs")
    drop(node, "num_outputs")
    if count is None or argument(node, 1):
        return
    axis = attribute(node, "axis", 0)
    whole = context.size(node.input[0], axis)
    if whole is None:
        raise CannotLowerError("has num_outputs, along an axis of open length")
    if whole % count:
        piece = -(-whole // count)
        sizes = [piece] * (count - 1) + [whole - piece * (count - 1)]
        inputs(node, [node.input[0], context.add(f"{node.output[0]}_sizes", np.array(sizes))])


def all_axes(node: onnx.NodeProto, context: Context) -> None:
    """Pad had no list of axes: widths for all of them."""
    name = argument(node, 3)
    if not name:
        return
    axes, widths, rank = context.integers(name), context.integers(node.input[1]), context.rank(node.input[0])
    if axes is None or widths is None or rank is None:
        raise CannotLowerError("has axes or widths that are computed")
    every = [0] * (2 * rank)
    for number, axis in enumerate(axes):
        every[axis % rank], every[axis % rank + rank] = widths[number], widths[number + len(axes)]
    inputs(node, [node.input[0], context.add(f"{node.output[0]}_widths", np.array(every)), *node.input[2:3]])


def no_wrap(node: onnx.NodeProto, context: Context) -> None:
    """Pad did not wrap around."""
    if attribute(node, "mode") == "wrap":
        raise CannotLowerError("wraps around, which older versions do not know")


def ratio_as_attribute(node: onnx.NodeProto, context: Context) -> None:
    """The share that Dropout drops was an attribute; whether it does, the runtime's choice."""
    ratio, training = argument(node, 1), argument(node, 2)
    share, is_training = context.constant(ratio), context.constant(training)
    if (ratio and share is None) or (training and (is_training is None or is_training.any())):
        raise CannotLowerError("drops something, or may")
    drop(node, "seed")
    inputs(node, node.input[:1])
    if share is not None:
        give(node, "ratio", float(share.reshape(-1)[0]))


def every_input(node: onnx.NodeProto, context: Context) -> None:
    """Resize had to be given all inputs: empty ones for those that do not matter."""
    given = [argument(node, position) for position in range(4)]
    for position, name in ((1, "roi"), (2, "scales")):
        given[position] = given[position] or context.add(f"{node.output[0]}_{name}", np.zeros(0, np.float32))
    inputs(node, given if given[3] else given[:3])


def known_coordinates(node: onnx.NodeProto, context: Context) -> None:
    """What Resize's later ways to place pixels need."""
    if attribute(node, "coordinate_transformation_mode") == "half_pixel_symmetric":
        raise CannotLowerError("has coordinate_transformation_mode='half_pixel_symmetric', which older versions do not know")


def no_policy(node: onnx.NodeProto, context: Context) -> None:
    """Resize had no list of axes; how to keep proportions matters only where sizes are given."""
    if not argument(node, 3):
        drop(node, "keep_aspect_ratio_policy")
    axes, rank, scales = attribute(node, "axes"), context.rank(node.input[0]), argument(node, 2)
    if axes is None:
        return
    values = context.constant(scales) if scales else None
    if rank is None or values is None:
        raise CannotLowerError("has axes, and sizes or scales that are computed")
    every = np.ones(rank, np.float32)
    every[[axis % rank for axis in axes]] = values
    drop(node, "axes")
    inputs(node, [*node.input[:2], context.add(f"{node.output[0]}_scales", every)])


def zeros_copy(node: onnx.NodeProto, context: Context) -> None:
    """0 among Reshape's sizes always meant: as it was."""
    if attribute(node, "allowzero", 0):
        sizes = context.integers(node.input[1])
        if sizes is None or 0 in sizes:
            raise CannotLowerError("has allowzero=1")
    drop(node, "allowzero")


def value_as_tensor(node: onnx.NodeProto, context: Context) -> None:
    """A Constant was a tensor."""
    kinds = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
    for name, dtype in kinds.items():
        value = attribute(node, name)
        if value is not None:
            drop(node, name)
            give(node, "value", numpy_helper.from_array(np.array(value, dtype)))


def one_scale(node: onnx.NodeProto, context: Context) -> None:
    """One scale for the whole tensor: there was no axis for several."""
    scale = context.constant(node.input[1])
    if scale is None or scale.size != 1:
        raise CannotLowerError("has a scale for each channel")
    drop(node, "axis")


def cast_of(node: onnx.NodeProto, context: Context) -> None:
    """CastLike is a Cast to a type that is known."""
    element = context.element(node.input[1])
    if not element:
        raise CannotLowerError("casts to a type that is not known")
    node.op_type = "Cast"
    drop(node, "saturate", "round_mode")
    inputs(node, node.input[:1])
    give(node, "to", element)


def long_names(node: onnx.NodeProto, context: Context) -> None:
    """GridSample's modes were for maps alone."""
    mode = attribute(node, "mode", "linear")
    rank = context.rank(node.input[0])
    if rank != 4:
        raise CannotLowerError("samples something else than maps")
    give(node, "mode", {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode))


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

CHANGES: Mapping[str, tuple[tuple[int, Change], ...]] = {
    **{f"Reduce{name}": ((18, axes_as_attribute),) for name in _REDUCTIONS},
    "ReduceSum": ((13, axes_as_attribute),),
    "Squeeze": ((13, axes_as_attribute),),
    "Unsqueeze": ((13, axes_as_attribute),),
    "Split": ((18, equal_pieces), (13, sizes_as_attribute)),
    "Pad": ((19, no_wrap), (18, all_axes)),
    "Dropout": ((12, ratio_as_attribute),),
    "Resize": ((19, known_coordinates), (18, no_policy), (13, every_input)),
    "Reshape": ((14, zeros_copy),),
    "Constant": ((12, value_as_tensor),),
    "QuantizeLinear": ((13, one_scale),),
    "DequantizeLinear": ((13, one_scale),),
    "CastLike": ((15, cast_of),),
    "GridSample": ((20, long_names),),
}
"""Operator → since which version it says something in another way, newest first, and the way back."""
