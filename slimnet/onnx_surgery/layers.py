"""Nodes with weights as torch's own layers, so that analysis and surgery know them; each says where its tensors come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from slimnet.errors import SurgeryError
from slimnet.onnx.program import Op, evaluate
from slimnet.onnx_surgery.operators import FIXED, FUNCTIONS, Function, NotFollowedError, numbers
from slimnet.onnx_surgery.operators.moving import target_of
from slimnet.onnx_surgery.operators.space import is_even, pads_of, torch_pads

Array = NDArray[Any]
Form = Literal["same", "transposed", "column"]
Constants = Mapping[str, Array]


@dataclass(frozen=True)
class Origin:
    """Where a tensor of a module stands in the file.

    Attributes:
        position: the input of the node; -1: the file has no place for it, it is added to the node's output.
        form: how the file has it: ``transposed``, or a ``column`` (C, 1, …) of that many dimensions.
        dims: of a column.
    """

    position: int
    form: Form = "same"
    dims: int = 1

    def written(self, tensor: Tensor) -> Array:
        """The tensor as the file has it."""
        array: Array = tensor.detach().cpu().numpy()
        if self.form == "transposed":
            return np.ascontiguousarray(array.T)
        return array.reshape(-1, *[1] * (self.dims - 1)) if self.form == "column" else array


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


class Apply(nn.Module):
    """A node without a layer of its own: a function of its inputs, some of which are constants.

    Args:
        op: the node.
        function: what it computes.
        constants: position → constant; floating-point tensors of more than one entry become parameters ``input_1`` ….
        opset: of the file, for what is computed from shapes alone.
    """

    def __init__(self, op: Op, function: Function, constants: Mapping[int, Array], opset: int) -> None:
        super().__init__()
        self.op, self.function, self.opset = op, function, opset
        self.fixed: dict[int, Array] = {}
        for position, array in constants.items():
            if array.size > 1 and array.dtype.kind == "f" and op.kind not in FIXED:
                self.register_parameter(f"input_{position}", _parameter(array))
            else:
                self.fixed[position] = array

    def forward(self, *values: Any) -> Any:
        """The outputs of the node for those of its inputs that are no constants, in order."""
        given = iter(values)
        arguments = [self._argument(position, name, given) for position, name in enumerate(self.op.inputs)]
        if not any(isinstance(value, Tensor) for value in arguments):
            found = evaluate(self.op, arguments, self.opset)
            return found[0] if len(found) == 1 else tuple(found)
        try:
            return self.function(*arguments)
        except NotFollowedError as error:
            error.node = self.op.name
            raise

    def _argument(self, position: int, name: str, given: Any) -> Any:
        if not name:
            return None
        if position in self.fixed:
            return self.fixed[position]
        held = self._parameters.get(f"input_{position}")
        return next(given) if held is None else held

    def extra_repr(self) -> str:
        """The operator."""
        return self.op.kind


class Padding(nn.Module):
    """Zeros around a convolution whose padding is uneven or automatic."""

    def __init__(self, op: Op, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> None:
        super().__init__()
        self.op, self.window = op, (kernel, stride, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, …) to (N, C, H + pads, …)."""
        pads = pads_of(self.op, x.shape[2:], *self.window)
        return F.pad(x, torch_pads(pads)) if any(pads) else x


class ChannelPad(nn.Module):
    """A Pad over channels (an option-A shortcut), which can be told which channels remain.

    Attributes:
        pads: before and behind, of each dimension, in ONNX's order.
    """

    def __init__(self, pads: Sequence[int], fill: float) -> None:
        super().__init__()
        self.pads, self.fill = list(pads), fill

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, …) to (N, before + C + after, …)."""
        return F.pad(x, torch_pads(self.pads)[: 2 * (x.dim() - 1)], value=self.fill)

    def keep_channels(self, inputs: Tensor, outputs: Tensor) -> None:
        """Adapt, in place: ``inputs`` (C,) bool and ``outputs`` (before + C + after,) bool are the channels that remain.

        Raises:
            SurgeryError: if an input channel remains and its place in the output does not, or vice versa.
        """
        half = len(self.pads) // 2
        before, after = self.pads[1], self.pads[half + 1]
        if not torch.equal(inputs, outputs[before : len(outputs) - after]):
            raise SurgeryError("a padded channel cannot be kept without its place in the output.")
        self.pads[1], self.pads[half + 1] = int(outputs[:before].sum()), int(outputs[len(outputs) - after :].sum())


class Reshape(nn.Module):
    """A Reshape that counts no channels where it need not: see :meth:`settle`.

    Attributes:
        template: the sizes asked for, 0 for one that is copied and -1 for one that follows; None: as the file says.
    """

    def __init__(self, op: Op, shape: Array | None) -> None:
        super().__init__()
        self.op, self.shape = op, shape
        self.template: list[int] | None = None
        self.seen: tuple[tuple[int, ...], list[int]] | None = None

    def forward(self, x: Any, given: Any = None) -> Any:
        """Map x to the sizes asked for."""
        shape = self.shape if given is None else given
        if not isinstance(x, Tensor):
            return np.reshape(x, numbers(shape))
        if self.template is not None:
            return x.reshape([x.shape[dim] if size == 0 else size for dim, size in enumerate(self.template)])
        target = target_of(x, shape, self.op)
        self.seen = (tuple(x.shape), target)
        return x.reshape(target)

    def settle(self) -> None:
        """Leave the number of channels to follow from the rest, by what was seen: (N, C·H·W) is asked for as (0, -1)."""
        if self.seen is None:
            return
        before, target = self.seen
        if 0 in target:  # an empty tensor
            return
        full = _full(before, target)
        if len(full) < 2 or len(before) < 2 or full[0] != before[0]:
            return
        if self.shape is None:  # computed: its sizes beyond the batch may depend on the picture's
            self.template = [0, -1] if len(full) == 2 else None
            return
        asked = [0, 0 if full[1] == before[1] else full[1], *numbers(self.shape)[2:]]
        if -1 not in asked and max(asked) > 1:
            asked[asked.index(max(asked))] = -1
        self.template = asked


def _full(before: Sequence[int], target: Sequence[int]) -> list[int]:
    known = int(np.prod([size for size in target if size != -1]))
    return [int(np.prod(before)) // max(1, known) if size == -1 else size for size in target]


class AnyBatchNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm of any number of places."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 – torch's name
        """Whatever comes."""


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
    if op.kind in LAYERS:
        return LAYERS[op.kind](op, constants, opset)
    if op.kind not in FUNCTIONS:
        raise NotFollowedError("an operator that slimnet does not know")
    return _applied(op, constants, opset)


def _applied(op: Op, constants: Constants, opset: int) -> list[Step]:
    held = {position: constants[name] for position, name in enumerate(op.inputs) if name in constants}
    module = Apply(op, FUNCTIONS[op.kind](op, opset), held, opset)
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


def _parameter(array: Array) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(array, order="C")))  # a copy: each node may lose other channels


def _bias(op: Op, constants: Constants) -> Array | None:
    return _weight(op, constants, 2) if len(op.inputs) > 2 and op.inputs[2] else None


def _filled(module: nn.Module, **arrays: Array | None) -> nn.Module:
    """Give a module built on the meta device its tensors."""
    for name, array in arrays.items():
        if name in module._buffers:
            module._buffers[name] = None if array is None else torch.from_numpy(np.array(array, order="C"))
        else:
            module._parameters[name] = None if array is None else _parameter(array)
    return module.eval()


@layer("Conv")
def _conv(op: Op, constants: Constants, opset: int) -> list[Step]:
    weight, bias = _weight(op, constants, 1), _bias(op, constants)
    places = weight.ndim - 2
    kinds = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
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
    kinds = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
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
    weight = _weight(op, constants, 1)
    transposed, alpha, beta = bool(op.get("transB", 0)), op.get("alpha", 1.0), op.get("beta", 1.0)
    bias = _bias(op, constants)
    rows = weight if transposed else weight.T
    if op.get("transA", 0) or weight.ndim != 2 or (bias is not None and bias.size not in (1, len(rows))):
        raise NotFollowedError("a product of matrices that is no linear layer")
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1), len(rows)) * np.asarray(beta, bias.dtype)
    module = _linear(rows * np.asarray(alpha, rows.dtype) if alpha != 1 else rows, bias)
    origins = {"weight": Origin(1, "same" if transposed else "transposed"), "bias": Origin(2)}
    scaled = {"alpha": 1.0, "beta": 1.0} if (alpha, beta) != (1.0, 1.0) else {}
    return [Step(module, op.inputs[:1], op.outputs, origins, scaled)]


def _linear(rows: Array, bias: Array | None) -> nn.Module:
    return _filled(nn.Linear(rows.shape[1], rows.shape[0], bias=bias is not None, device="meta"), weight=rows, bias=bias)


@layer("MatMul")
def _matmul(op: Op, constants: Constants, opset: int) -> list[Step]:
    right = constants.get(op.inputs[1])
    if right is not None and right.ndim == 2 and right.dtype.kind == "f" and op.inputs[0] not in constants:
        origins = {"weight": Origin(1, "transposed"), "bias": Origin(-1)}
        return [Step(_linear(right.T, None), op.inputs[:1], op.outputs, origins)]
    held = {position: constants[name] for position, name in enumerate(op.inputs) if name in constants}
    module = Apply(op, torch.matmul, held, opset)
    return [Step(module, tuple(name for name in op.inputs if name not in constants), op.outputs)]


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
    if slope.size != max(slope.shape[0] if slope.ndim else 1, 1):
        return _sloped(op, constants, opset)
    module = _filled(nn.PReLU(slope.size, device="meta"), weight=slope.reshape(-1))
    return [Step(module, op.inputs[:1], op.outputs, {"weight": Origin(1, "column", max(1, slope.ndim))})]


def _sloped(op: Op, constants: Constants, opset: int) -> list[Step]:
    """With slopes of any shape."""
    module = Apply(op, lambda x, slope: torch.where(x < 0, x * slope, x), {1: _weight(op, constants, 1)}, opset)
    return [Step(module, op.inputs[:1], op.outputs, {"input_1": Origin(1)})]


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


@layer("Reshape")
def _reshape(op: Op, constants: Constants, opset: int) -> list[Step]:
    held = constants.get(op.inputs[1]) if len(op.inputs) > 1 else None
    given = tuple(name for name in op.inputs if name not in constants)
    if op.inputs[0] in constants:
        return _applied(op, constants, opset)
    return [Step(Reshape(op, held), given, op.outputs)]
