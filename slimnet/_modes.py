"""Leave a model as it was: every module in its own mode, every tensor on its own device; outputs flat; half precision widened."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@contextmanager
def kept_modes(*models: nn.Module) -> Iterator[None]:
    """On leaving, every submodule of ``models`` gets its former mode back, whatever happened inside."""
    before = [(module, module.training) for model in models for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


@contextmanager
def in_eval_mode(*models: nn.Module) -> Iterator[None]:
    """Put ``models`` in eval mode; on leaving, every submodule gets its former mode back."""
    with kept_modes(*models):
        for model in models:
            model.eval()
        yield


def flatten_outputs(value: Any) -> list[Tensor]:
    """All tensors in a model's output, in order: of a tensor, a tuple, list or mapping of such, or a dataclass."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in flatten_outputs(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in flatten_outputs(item)]
    if is_dataclass(value):
        return flatten_outputs([getattr(value, item.name) for item in fields(value)])
    return []


@contextmanager
def with_flat_outputs(model: nn.Module) -> Iterator[None]:
    """Let ``model`` give a tensor, or a tuple of them in place of whatever holds them: tracers take nothing else.

    On leaving, its forward pass is the one that it was.
    """
    had, forward = vars(model).get("forward"), model.forward

    @functools.wraps(forward)
    def flat(*inputs: Any, **keywords: Any) -> Any:
        import torch

        output = forward(*inputs, **keywords)
        return output if isinstance(output, torch.Tensor) else tuple(flatten_outputs(output))

    vars(model)["forward"] = flat
    try:
        yield
    finally:
        del vars(model)["forward"]
        if had is not None:
            vars(model)["forward"] = had


@contextmanager
def on_device(model: nn.Module, device: torch.device | str) -> Iterator[None]:
    """Move ``model`` to ``device``; on leaving, its parameters and buffers are the very tensors that they were.

    What is computed inside may not change the model's tensors: where they had to be moved, the change would be lost.
    """
    import torch

    held: list[tuple[dict[str, Any], str, torch.Tensor, torch.Tensor, torch.Tensor | None]] = [
        (store, name, tensor, tensor.data, tensor.grad if tensor.is_leaf else None)
        for module in model.modules()
        for store in (module._parameters, module._buffers)
        for name, tensor in store.items()
        if tensor is not None
    ]
    target = torch.empty(0, device=device).device  # "cuda" is a certain one
    if all(data.device == target for _, _, _, data, _ in held):
        yield
        return
    try:
        model.to(device)
        yield
    finally:
        for store, name, tensor, data, gradient in held:
            tensor.data = data
            if gradient is not None:
                tensor.grad = gradient
            store[name] = tensor


def widened(tensor: Tensor) -> Tensor:
    """``tensor`` in float32 where it is of half precision; as it is otherwise."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor
