"""Nodes with weights as torch's own layers, so that analysis and surgery know them; each says where its tensors come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slimnet.errors import one_line
from slimnet.onnx.program import Op
from slimnet.onnx_surgery.modules import AnyBatchNorm, Apply, Cast, ChannelPad, Padding, Reshape, parameter
from slimnet.onnx_surgery.operators import FUNCTIONS, Function, NotFollowedError, numbers
from slimnet.onnx_surgery.operators.registry import first_tensor, operand, tensor
from slimnet.onnx_surgery.operators.space import is_even

Array = NDArray[Any]
Form = Literal["same", "transposed", "column"]
Constants = Mapping[str, Array]


@dataclass(frozen=True)
class Origin:
    """Where a tensor of a module stands in the file.

    Attributes:
        position: the input of the node; -1: the file has no place for it, it is added to the node's output.
        form: how the file has it: ``transposed``, or a ``column`` (1, C, 1, …).
        shape: of a column, -1 for its length.
    """

    position: int
    form: Form = "same"
    shape: tuple[int, ...] = (-1,)

    def written(self, tensor: Tensor) -> Array:
        """The tensor as the file has it."""
        array: Array = tensor.detach().cpu().numpy()
        if self.form == "transposed":
            return np.ascontiguousarray(array.T)
        return array.reshape(self.shape) if self.form == "column" else array


@dataclass(frozen=True, eq=False)
class Step:
    """A module that computes a node, or a part of one.

    Attributes:
        module: the module.
        inputs: the values that it is called with, in order.
        outputs: the values that it makes.
        origins: name of a tensor of the module → its place in the file.
        attributes: of the node, which must change once a tensor is written.
        suffix: of its name, where a node has several.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    origins: Mapping[str, Origin] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ""


LAYERS: dict[str, Callable[[Op, Constants, int], list[Step]]] = {}


def layer(*kinds: str) -> Callable[[Callable[[Op, Constants, int], list[Step]]], Callable[[Op, Constants, int], list[Step]]]:
    """Register what makes the steps of these operators."""

    def register(make: Callable[[Op, Constants, int], list[Step]]) -> Callable[[Op, Constants, int], list[Step]]:
        LAYERS.update(dict.fromkeys(kinds, make))
        return make

    return register


def steps_of(op: Op, constants: Constants, opset: int) -> list[Step]:
    """The modules that compute a node.

    Raises:
        NotFollowedError: if nobody knows the operator, or not with these attributes.
    """
    if op.captured:
        raise NotFollowedError("a graph within the graph")
    if op.kind not in LAYERS and op.kind not in FUNCTIONS:
        raise NotFollowedError("an operator that slimnet does not know")
    try:
        return LAYERS.get(op.kind, _applied)(op, constants, opset)
    except NotFollowedError:
        raise
    except Exception as error:  # attributes and weights that do not fit together
        raise NotFollowedError(one_line(error)) from None


def _applied(op: Op, constants: Constants, opset: int, function: Function | None = None) -> list[Step]:
    held = {position: constants[name] for position, name in enumerate(op.inputs) if name in constants}
    module = Apply(op, function or FUNCTIONS[op.kind](op, opset), held, opset)
    origins = {name: Origin(int(name.rpartition("_")[2])) for name, _ in module.named_parameters()}
    return [Step(module, tuple(n for n in op.inputs if n and n not in constants), op.outputs, origins)]


def _weight(op: Op, constants: Constants, position: int) -> Array:
    """A constant that a layer needs.

    Raises:
        NotFollowedError: if it is none, or no floating-point one.
    """
    found = constants.get(op.inputs[position]) if position < len(op.inputs) else None
    if found is None or found.dtype.kind != "f":
        raise NotFollowedError("a weight that is no floating-point constant")
    return found


def _bias(op: Op, constants: Constants) -> Array | None:
    return _weight(op, constants, 2) if len(op.inputs) > 2 and op.inputs[2] else None


def _filled(module: nn.Module, **arrays: Array | None) -> nn.Module:
    """Give a module built on the meta device its tensors."""
    for name, array in arrays.items():
        if name in module._buffers:
            module._buffers[name] = None if array is None else torch.from_numpy(np.array(array, order="C"))
        else:
            module._parameters[name] = None if array is None else parameter(array)
    return module.eval()


@layer("Conv")
def _conv(op: Op, constants: Constants, opset: int) -> list[Step]:
    weight, bias = _weight(op, constants, 1), _bias(op, constants)
    places = weight.ndim - 2
    kinds: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    if places not in kinds:
        raise NotFollowedError(f"a convolution over {places} dimensions")
    kernel = weight.shape[2:]
    stride, dilation = (tuple(op.get(name, [1] * places)) for name in ("strides", "dilations"))
    groups = op.get("group", 1)
    fixed = list(op.get("pads", [0] * 2 * places)) if op.get("auto_pad", "NOTSET") in ("NOTSET", "VALID") else None
    even = fixed is not None and is_even(fixed)
    padding: Any = tuple(fixed[:places]) if even and fixed is not None and op.get("auto_pad", "NOTSET") == "NOTSET" else 0
    sizes = (weight.shape[1] * groups, weight.shape[0], kernel, stride, padding, dilation, groups)
    module = _filled(kinds[places](*sizes, bias=bias is not None, device="meta"), weight=weight, bias=bias)
    x, y = op.inputs[0], op.outputs
    origins = {"weight": Origin(1), "bias": Origin(2)}
    if even:
        return [Step(module, (x,), y, origins)]
    between = f"{y[0]} padded"
    return [Step(Padding(op, kernel, stride, dilation), (x,), (between,), suffix="pad"), Step(module, (between,), y, origins)]


@layer("ConvTranspose")
def _conv_transpose(op: Op, constants: Constants, opset: int) -> list[Step]:
    weight, bias = _weight(op, constants, 1), _bias(op, constants)
    places = weight.ndim - 2
    kinds: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
    pads = list(op.get("pads", [0] * 2 * places))
    odd = op.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in op.attributes or not is_even(pads)
    if places not in kinds or odd:
        raise NotFollowedError("a transposed convolution with uneven padding")
    groups = op.get("group", 1)
    stride, dilation = (tuple(op.get(name, [1] * places)) for name in ("strides", "dilations"))
    added = tuple(op.get("output_padding", [0] * places))
    sizes = (weight.shape[0], weight.shape[1] * groups, weight.shape[2:], stride, tuple(pads[:places]), added, groups)
    made = kinds[places](*sizes, bias is not None, dilation, device="meta")
    return [Step(_filled(made, weight=weight, bias=bias), op.inputs[:1], op.outputs, {"weight": Origin(1), "bias": Origin(2)})]


@layer("Gemm")
def _gemm(op: Op, constants: Constants, opset: int) -> list[Step]:
    weight, bias = constants.get(op.inputs[1]), constants.get(op.inputs[2] if len(op.inputs) > 2 else "")
    transposed, alpha, beta = bool(op.get("transB", 0)), op.get("alpha", 1.0), op.get("beta", 1.0)
    if weight is None or weight.dtype.kind != "f" or op.get("transA", 0) or (len(op.inputs) > 2 and bias is None):
        return _product(op, constants, opset)
    rows = weight if transposed else weight.T
    if bias is not None and bias.shape not in ((), (1,), (len(rows),), (1, len(rows))):
        return _product(op, constants, opset)
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1), len(rows)) * np.asarray(beta, bias.dtype)
    module = _linear(rows * np.asarray(alpha, rows.dtype) if alpha != 1 else rows, bias)
    origins = {"weight": Origin(1, "same" if transposed else "transposed"), "bias": Origin(2)}
    scaled = {"alpha": 1.0, "beta": 1.0} if (alpha, beta) != (1.0, 1.0) else {}
    return [Step(module, op.inputs[:1], op.outputs, origins, scaled)]


def _product(op: Op, constants: Constants, opset: int) -> list[Step]:
    """A product of matrices that is no linear layer."""

    def run(left: Any, right: Any, bias: Any = None) -> Tensor:
        like = first_tensor((left, right, bias))
        left, right = tensor(left, like), tensor(right, like)
        left, right = (left.T if op.get("transA", 0) else left), (right.T if op.get("transB", 0) else right)
        made: Tensor = op.get("alpha", 1.0) * (left @ right)
        return made if bias is None else made + op.get("beta", 1.0) * tensor(bias, like)

    return _applied(op, constants, opset, run)


def _linear(rows: Array, bias: Array | None) -> nn.Module:
    return _filled(nn.Linear(rows.shape[1], rows.shape[0], bias=bias is not None, device="meta"), weight=rows, bias=bias)


@layer("MatMul")
def _matmul(op: Op, constants: Constants, opset: int) -> list[Step]:
    right = constants.get(op.inputs[1])
    if right is not None and right.ndim == 2 and right.dtype.kind == "f" and op.inputs[0] not in constants:
        origins = {"weight": Origin(1, "transposed"), "bias": Origin(-1)}
        return [Step(_linear(right.T, None), op.inputs[:1], op.outputs, origins)]

    def run(left: Any, right: Any) -> Tensor:
        like = first_tensor((left, right))
        return torch.matmul(tensor(left, like), tensor(right, like))

    return _applied(op, constants, opset, run)


@layer("BatchNormalization")
def _batch_norm(op: Op, constants: Constants, opset: int) -> list[Step]:
    if op.get("training_mode", 0) or not op.get("spatial", 1) or (opset < 14 and len([n for n in op.outputs if n]) > 1):
        raise NotFollowedError("a norm by the statistics of the batch")
    names = ("weight", "bias", "running_mean", "running_var")
    arrays = {name: _weight(op, constants, position) for position, name in enumerate(names, start=1)}
    module = AnyBatchNorm(len(arrays["weight"]), eps=op.get("epsilon", 1e-5), device="meta")
    origins = {name: Origin(position) for position, name in enumerate(names, start=1)}
    module.num_batches_tracked = None
    return [Step(_filled(module, **arrays), op.inputs[:1], op.outputs[:1], origins)]


@layer("PRelu")
def _prelu(op: Op, constants: Constants, opset: int) -> list[Step]:
    slope = _weight(op, constants, 1)
    shape = slope.shape
    plain = shape[1:] if shape[:1] == (1,) and len(shape) > 3 else shape
    if len(plain) < 2 or slope.size != plain[0]:
        return _sloped(op, constants, opset)
    module = _filled(nn.PReLU(slope.size, device="meta"), weight=slope.reshape(-1))
    column = tuple(-1 if place == len(shape) - len(plain) else 1 for place in range(len(shape)))
    return [Step(module, op.inputs[:1], op.outputs, {"weight": Origin(1, "column", column)})]


def _sloped(op: Op, constants: Constants, opset: int) -> list[Step]:
    """With slopes of any shape."""
    return _applied(op, constants, opset, lambda x, slope: torch.where(x < 0, x * operand(slope, x), x))


@layer("Pad")
def _pad(op: Op, constants: Constants, opset: int) -> list[Step]:
    given = constants.get(op.inputs[1]) if len(op.inputs) > 1 else op.get("pads", None)
    pads = [] if given is None else numbers(given)
    half = len(pads) // 2
    over_channels = half > 2 and (pads[1] > 0 or pads[half + 1] > 0) and min(pads) >= 0 and not any((pads[0], pads[half]))
    if not over_channels or op.get("mode", "constant") != "constant" or len(op.inputs) > 3:
        return _applied(op, constants, opset)
    fill = constants.get(op.inputs[2]) if len(op.inputs) > 2 and op.inputs[2] else np.asarray(op.get("value", 0.0))
    if fill is None:
        return _applied(op, constants, opset)
    return [Step(ChannelPad(pads, float(fill.reshape(-1)[0])), op.inputs[:1], op.outputs)]


@layer("Cast")
def _cast(op: Op, constants: Constants, opset: int) -> list[Step]:
    kind = {1: torch.float32, 10: torch.float16, 11: torch.float64}.get(op.get("to", 0))
    if kind is None or op.inputs[0] in constants:
        return _applied(op, constants, opset)
    return [Step(Cast(kind), op.inputs, op.outputs)]


@layer("Reshape")
def _reshape(op: Op, constants: Constants, opset: int) -> list[Step]:
    held = constants.get(op.inputs[1]) if len(op.inputs) > 1 else None
    given = tuple(name for name in op.inputs if name not in constants)
    if op.inputs[0] in constants:
        return _applied(op, constants, opset)
    return [Step(Reshape(op, held), given, op.outputs)]
