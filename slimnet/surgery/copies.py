"""Copies of a model to cut: masks and parametrisations of other tools written into the weights, memory shared."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from slimnet._modes import computed_tensors
from slimnet.graph import in_eval_mode
from slimnet.graph.recorded import kind_of


def bake(model: nn.Module) -> nn.Module:
    """Make permanent, in place, what torch computes weights from: masks, parametrisations, weight and spectral norms."""
    with in_eval_mode(model):  # in training mode, a spectral norm would go on estimating
        for module in model.modules():
            _bake(module)
    return model


def _bake(module: nn.Module) -> None:
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
    for name in [name.removesuffix("_orig") for name in module._parameters if name.endswith("_orig")]:
        if f"{name}_mask" in module._buffers:
            prune.remove(module, name)  # type: ignore[no-untyped-call]
    if parametrize.is_parametrized(module):
        _part_class(module)
        for name in list(module.parametrizations):  # type: ignore[arg-type]
            parametrize.remove_parametrizations(module, str(name), leave_parametrized=True)


def _part_class(module: nn.Module) -> None:
    """Give a parametrised module a class of its own: torch takes the weight off it, and copies share the class."""
    shared = type(module)
    own = {key: value for key, value in vars(shared).items() if key not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, own)


def shared_copy(model: nn.Module, memo: Mapping[int, Tensor] | None = None) -> nn.Module:
    """A copy of ``model`` whose parameters are objects of their own, but share the memory of the old ones.

    Giving such a tensor other data (``module.to``, slicing) leaves the old model as it was; writing into it does not. Buffers,
    into which a forward pass may write, are copied.
    ``memo``: object identity → what stands for that object in the copy.
    """
    shared = dict(memo or {})
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if type(tensor) is nn.Parameter:
                shared[id(tensor)] = nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad)
            elif type(tensor) is Tensor and tensor.is_leaf:
                shared[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(model, shared)


def unshare(model: nn.Module, other: nn.Module) -> nn.Module:
    """Give every tensor of ``model`` that shares memory with ``other`` memory of its own, in place."""
    taken = {_memory(tensor) for tensor in (*other.parameters(), *other.buffers())} - {0}
    for tensor in (*model.parameters(), *model.buffers()):
        if _memory(tensor) in taken:
            tensor.data = tensor.detach().clone()
    return model


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.device.type != "meta" else 0


def on_cpu(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """``model`` on the CPU, in place: floating point tensors in ``dtype``, complex ones of the same precision; None: their own.

    ``Module.to`` would take the imaginary part off.
    """

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to("cpu", kind_of(tensor, dtype))

    moves: Callable[[Callable[[Tensor], Tensor]], nn.Module] = model._apply
    return moves(moved)


def baked_copy(model: nn.Module) -> nn.Module:
    """A :func:`shared_copy` of ``model`` with all masks and parametrisations written into its weights."""
    return bake(shared_copy(model, computed_tensors(model)))
