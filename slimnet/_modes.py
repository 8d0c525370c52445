"""Leave a model as it was: every module in its own mode, every tensor on its own device; look at half precision widened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
