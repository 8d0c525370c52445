"""The modules that stand for nodes without weights, and what nodes need beside torch's own layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from slimnet.errors import SurgeryError
from slimnet.onnx.program import Op, evaluate
from slimnet.onnx_surgery.operators import FIXED, Function, NotFollowedError, numbers
from slimnet.onnx_surgery.operators.moving import target_of
from slimnet.onnx_surgery.operators.registry import tensor
from slimnet.onnx_surgery.operators.space import pads_of, torch_pads

Array = NDArray[Any]


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
                self.register_parameter(f"input_{position}", parameter(array))
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


class Cast(nn.Module):
    """A cast to floating-point numbers of a kind: to finer ones once the whole network is made finer.

    Attributes:
        like: (0,) a buffer of that kind.
    """

    like: Tensor

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("like", torch.empty(0, dtype=kind))

    def forward(self, x: Any) -> Tensor:
        """Map x to the same in other numbers."""
        return tensor(x, self.like).to(self.like.dtype)


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
        counts = [place for place, size in enumerate(asked) if size > 1 and size not in before[2:]]
        if -1 not in asked and len(counts) == 1:
            asked[counts[0]] = -1
        self.template = asked


def _full(before: Sequence[int], target: Sequence[int]) -> list[int]:
    known = int(np.prod([size for size in target if size != -1]))
    return [int(np.prod(before)) // max(1, known) if size == -1 else size for size in target]


class AnyBatchNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm of any number of places."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 – torch's name
        """Whatever comes."""


def parameter(array: Array) -> nn.Parameter:
    """A parameter of its own memory: each node may lose other channels."""
    return nn.Parameter(torch.from_numpy(np.array(array, order="C")))
