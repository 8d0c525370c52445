"""The registry of ONNX operators, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slimnet.onnx.program import Op

Array = NDArray[Any]
Function = Callable[..., Any]
"""Takes the inputs of a node in their order (tensors; arrays for what is known of shapes; None for what is left out), gives
its output, or a tuple of them."""

FUNCTIONS: dict[str, Callable[[Op, int], Function]] = {}
"""Operator → what makes its function from a node and the opset."""


FIXED = frozenset("Resize Upsample".split())
"""Operators whose floating-point constants are settings, no weights."""


class NotFollowedError(Exception):
    """A node that is not followed: its channels stay, and what lies behind it is left as it is."""

    node = ""
    """Where it was found as the network ran: name of the node."""


def operator(*kinds: str) -> Callable[[Callable[[Op, int], Function]], Callable[[Op, int], Function]]:
    """Register what makes the function of these operators."""

    def register(make: Callable[[Op, int], Function]) -> Callable[[Op, int], Function]:
        for kind in kinds:
            FUNCTIONS[kind] = make
        return make

    return register


def tensor(value: Any, like: Tensor) -> Tensor:
    """An operand as a tensor; floating-point arrays take the kind of numbers of ``like``."""
    if isinstance(value, Tensor):
        return value
    made = torch.tensor(value, device=like.device)  # a copy: arrays of a file may not be written to
    return made.to(like.dtype) if made.is_floating_point() and like.is_floating_point() else made


def operand(value: Any, like: Tensor) -> Any:
    """The same; one number stays a number, so that it ties no channels."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.ndim <= like.dim():
        return value.reshape(-1)[0].item()
    return tensor(value, like)


def first_tensor(values: Sequence[Any]) -> Tensor:
    """The first operand that is a tensor."""
    return next(value for value in values if isinstance(value, Tensor))


def numbers(value: Any) -> list[int]:
    """Integers that are known before the network runs.

    Raises:
        NotFollowedError: if they depend on the network's input.
    """
    if isinstance(value, Tensor):
        raise NotFollowedError("a shape or an index that depends on the picture")
    return [int(item) for item in np.asarray(value).reshape(-1)]


def text(value: Any) -> str:
    """An attribute that is text."""
    return value.decode() if isinstance(value, bytes) else str(value)
