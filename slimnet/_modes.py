"""Leave a model as it was: every module in its own mode, every tensor on its own device; outputs flat and named; wrappers taken
off; half precision widened."""

from __future__ import annotations

import functools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from slimnet._clean import clean

_HOLDERS: tuple[Any, ...] = (OrderedDict, dict, list, set, deque)
_OBJECTS, _OTHERS = 2, ("torch", "builtins", "typing", "types", "functools")

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
def kept_attributes(model: nn.Module) -> Iterator[None]:
    """On leaving, every submodule holds what it held, also where its code counts its calls or keeps something for the next: by
    itself, in mappings, lists and sets, of its class too, and in objects of the user's own."""
    before: dict[int, tuple[Any, Any]] = {}
    for module in model.modules():
        _note(vars(module), before)
        for kind in type(module).__mro__:
            for value in vars(kind).values() if kind.__module__.partition(".")[0] not in _OTHERS else ():
                if isinstance(value, _HOLDERS):
                    _note(value, before)
    try:
        yield
    finally:
        for held, had in before.values():
            kind = _holder(held)
            kind.clear(held)
            (kind.extend if kind in (list, deque) else kind.update)(held, had)


def _holder(value: Any) -> Any:
    """The type whose methods say what something holds: a subclass may do something else."""
    return next((kind for kind in _HOLDERS if isinstance(value, kind)), None)


def _note(value: Any, before: dict[int, tuple[Any, Any]], depth: int = 0) -> None:
    """Note what something holds, and what that holds, by its identity; objects as far as ``_OBJECTS`` of them in one another."""
    if id(value) in before:
        return
    kind = _holder(value)
    if kind is not None:
        before[id(value)] = value, list(kind.items(value) if isinstance(value, dict) else kind.__iter__(value))
    elif not isinstance(value, tuple):
        attributes = getattr(value, "__dict__", None) if depth < _OBJECTS and _is_own(value) else None
        if isinstance(attributes, dict):
            _note(attributes, before, depth + 1)
        return
    for item in dict.values(value) if isinstance(value, dict) else value:
        _note(item, before, depth)


def _is_own(value: Any) -> bool:
    """Whether an object may be one in which a network's code keeps tensors: no tensor, class, function or part of torch."""
    if hasattr(value, "named_parameters"):  # a module in a plain list
        return True
    return not (isinstance(value, type) or callable(value) or type(value).__module__.partition(".")[0] in _OTHERS)


def flatten_outputs(value: Any) -> list[Tensor]:
    """All tensors in a model's output, in order: of a tensor, a tuple, list or mapping of such, or a dataclass."""
    return [tensor for _, tensor in _leaves(value, ())]


def output_names(value: Any) -> list[str]:
    """A name for each tensor of :func:`flatten_outputs`, all of them different.

    What holds a tensor names it: the key of a mapping, the field of a dataclass or a named tuple, the number in a list, with dots
    between them (``boxes``, ``features.0``). A number that stands first is ``output_0``, ``output_1`` …; a tensor that nothing
    holds is ``logits``.
    """
    found: list[str] = []
    for path, _ in _leaves(value, ()):
        first, *rest = path or ("logits",)
        name = ".".join([f"output_{first}" if isinstance(first, int) else clean(first), *map(clean, rest)])
        found.append(name if name not in found else f"{name}_{len(found)}")
    return found


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """The tensors, each with the names and numbers that lead to it."""
    import torch

    if isinstance(value, torch.Tensor):
        yield path, value
    for name, item in _items(value):
        yield from _leaves(item, (*path, name))


def _items(value: Any) -> list[tuple[Any, Any]]:
    """What a mapping, a tuple, a list or a dataclass holds, with the name or number of each; nothing of anything else."""
    if isinstance(value, Mapping):
        return [(str(name), item) for name, item in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if is_dataclass(value):
        return [(item.name, getattr(value, item.name)) for item in fields(value)]
    return []


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """The same lists, tuples and mappings with what ``function`` makes of each thing in them that is none of these."""
    if isinstance(value, Mapping):
        made = {name: mapped(item, function) for name, item in value.items()}
        return made if type(value) is dict else OrderedDict(made)
    if isinstance(value, list | tuple):
        items = [mapped(item, function) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return function(value)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what ``torch.compile`` or the data-parallel modules made of it."""
    from torch.nn.parallel import DataParallel, DistributedDataParallel

    while True:
        inner = model.module if isinstance(model, DataParallel | DistributedDataParallel) else getattr(model, "_orig_mod", model)
        if inner is model:
            return model
        model = inner


def computed_tensors(model: nn.Module) -> dict[int, Tensor]:
    """What modules hold that was computed (a masked weight, an answer that is kept), by identity, each as a tensor of its own.

    As the memo of ``copy.deepcopy``, which refuses such tensors.
    """
    import torch

    held = (value for module in model.modules() for value in vars(module).values())
    return {id(value): value.detach().clone() for value in held if isinstance(value, torch.Tensor) and not value.is_leaf}


STORED_TOLERANCE = 1e-5


def stored_tolerance(model: nn.Module, least: float = STORED_TOLERANCE) -> float:
    """What a model may differ by, relative, from one whose constants it has in its biases: these are rounded once.

    Args:
        model: as it is stored.
        least: for float32; 16 · ε for coarser numbers.
    """
    import torch

    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return max([least, *(16 * torch.finfo(kind).eps for kind in kinds if kind not in (torch.float32, torch.float64))])


@contextmanager
def with_flat_outputs(model: nn.Module) -> Iterator[None]:
    """Let ``model`` give a tensor, or a tuple of them in place of whatever holds them: tracers take nothing else.

    On leaving, its forward pass is the one that it was. Inside, modules that ``module.compile()`` compiled run as written.
    """
    had, forward = vars(model).get("forward"), model.forward

    @functools.wraps(forward)
    def flat(*inputs: Any, **keywords: Any) -> Any:
        import torch

        output = forward(*inputs, **keywords)
        return output if isinstance(output, torch.Tensor) else tuple(flatten_outputs(output))

    compiled = {module: vars(module).pop("_compiled_call_impl", None) for module in model.modules()}
    vars(model)["forward"] = flat
    try:
        yield
    finally:
        for module, call in compiled.items():
            if call is not None:
                vars(module)["_compiled_call_impl"] = call
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
