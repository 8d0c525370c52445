"""Where the whole numbers come from that a network's code counts channels with: shapes, numbers of its modules, or the code."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from slimnet._modes import in_eval_mode, kept_attributes
from slimnet.graph.findings import Number

Origin = Number | str
"""``"shape"``: a share of a tensor's size; ``"rest"``: -1; ``"code"``: written in the code, or unknown; ``"graph"``: in a program
that is itself cut; or a module's number."""

SEEN = {
    "view": "view", "reshape": "view", "unflatten": "unflatten", "split": "split", "split_with_sizes": "split",
    "narrow": "narrow", "__getitem__": "slice", "group_norm": "group_norm",
}  # fmt: skip


class Count(int):
    """A whole number that knows where it comes from; ``times`` of a module's number."""

    origin: Origin
    times: int

    def __new__(cls, value: int, origin: Origin, times: int = 1) -> Count:
        """A number and where it comes from."""
        made = super().__new__(cls, value)
        made.origin, made.times = origin, times
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)

    def _with(self, other: Any, function: Callable[[int, int], Any], *, swapped: bool = False) -> Any:
        if not isinstance(other, int):
            return NotImplemented
        one, two = (other, self) if swapped else (self, other)
        value = function(int(one), int(two))
        return _derived(value, one, two, function) if isinstance(value, int) else value

    def __mul__(self, other: Any) -> Any:
        return self._with(other, operator.mul)

    def __rmul__(self, other: Any) -> Any:
        return self._with(other, operator.mul, swapped=True)

    def __floordiv__(self, other: Any) -> Any:
        return self._with(other, operator.floordiv)

    def __add__(self, other: Any) -> Any:
        return self._with(other, operator.add)

    def __radd__(self, other: Any) -> Any:
        return self._with(other, operator.add, swapped=True)

    def __sub__(self, other: Any) -> Any:
        return self._with(other, operator.sub)


def _derived(value: int, one: Any, two: Any, function: Callable[[int, int], Any]) -> int:
    """A number made of two, at least one of them a :class:`Count`."""
    first, second = getattr(one, "origin", "code"), getattr(two, "origin", "code")
    adds = function in (operator.add, operator.sub)
    if "shape" in (first, second):
        shares = first == second == "shape" if adds else True
        if function is operator.floordiv and first != "shape":
            shares = False
        return Count(value, "shape") if shares else value
    if adds and first == second and isinstance(first, Number):
        return _times(value, first, function(one.times, two.times))
    if function is operator.mul and "code" in (first, second):
        known, factor = (one, two) if second == "code" else (two, one)
        return _times(value, known.origin, known.times * int(factor))
    if function is operator.floordiv and second == "code" and int(two) and not one.times % int(two):
        return _times(value, first, one.times // int(two))
    return value


def _times(value: int, number: Origin, times: int) -> int:
    return Count(value, number, times) if times > 0 else value


def origin_of(value: Any) -> tuple[Origin, int]:
    """Where a number comes from, and how many times a module's number it is."""
    if isinstance(value, Count):
        return value.origin, value.times
    return ("rest", 1) if value == -1 else ("code", 1)


Key = tuple[str, str, tuple[int, ...], tuple[int, ...]]
"""Module, operator, its whole numbers, and the shape of what it takes."""


class Counts(TorchFunctionMode):
    """What the operators that count channels were given, once the network has run under this mode.

    Attributes:
        found: by operator; None where calls that look the same were given numbers of different origins.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._paths: dict[int, str] = {id(module): path for path, module in reversed(list(model.named_modules()))}
        self.found: dict[Key, tuple[tuple[Origin, int], ...] | None] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and note its numbers."""
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in ("__get__", "size") and isinstance(result, torch.Size):
            return torch.Size([Count(size, "shape") for size in result])
        if name == "size" and type(result) is int:
            return Count(result, "shape")
        if name in SEEN and args and isinstance(args[0], Tensor):
            self._note(SEEN[name], args[0].shape, list(args[1:]), dict(kwargs or {}))
        return result

    def _note(self, name: str, shape: Sequence[int], arguments: list[Any], keywords: dict[str, Any]) -> None:
        path = self._module()
        for numbers in _numbers(name, shape, arguments, keywords):
            key = (path, name, tuple(int(value) for value in numbers), tuple(int(size) for size in shape))
            origins = tuple(origin_of(value) for value in numbers)
            if self.found.setdefault(key, origins) != origins:
                self.found[key] = None

    def _module(self) -> str:
        """The innermost module whose method runs."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            owner: object = frame.f_locals.get("self")
            if isinstance(owner, nn.Module) and id(owner) in self._paths:
                return self._paths[id(owner)]
            frame = frame.f_back
        return ""


def _numbers(name: str, shape: Sequence[int], arguments: list[Any], keywords: dict[str, Any]) -> Iterator[list[Any]]:
    """The whole numbers of a call as its node in the exported graph has them: the dimension first, where there is one."""
    if name == "slice":
        yield from _slices(arguments[0] if isinstance(arguments[0], tuple) else (arguments[0],), shape)
        return
    names = {
        "view": ["size", "shape"],
        "unflatten": ["dim", "sizes"],
        "split": ["split_size", "split_size_or_sections", "split_sizes", "dim"],
        "narrow": ["dim", "start", "length"],
        "group_norm": ["num_groups"],
    }[name]
    if name == "group_norm":
        arguments = arguments[:1]
    flat: list[Any] = []
    for value in [*arguments, *(keywords[key] for key in names if key in keywords)]:
        flat.extend(value if isinstance(value, list | tuple) else [value])
    if not all(isinstance(value, SupportsIndex) and not isinstance(value, Tensor) for value in flat):
        return
    if name == "split" and len(arguments) < 2 and "dim" not in keywords:
        flat.append(0)
    if name == "split":
        flat = [flat[-1] % len(shape), *flat[:-1]]
    elif name not in ("view", "group_norm"):
        flat[0] = flat[0] % len(shape)
    yield flat


def _slices(index: tuple[Any, ...], shape: Sequence[int]) -> Iterator[list[Any]]:
    """``[dimension, start, end]`` of each slice; a number is a slice of one."""
    dim = 0
    taken = sum(item is not None and item is not Ellipsis for item in index)
    for item in index:
        if item is Ellipsis:
            dim += len(shape) - taken
        elif isinstance(item, slice):
            start = 0 if item.start is None else item.start
            end = sys.maxsize if item.stop is None else item.stop
            if isinstance(start, int) and isinstance(end, int):
                yield [dim, start, end]
            dim += 1
        elif item is not None:
            dim += 1


def watch(model: nn.Module, inputs: Sequence[Tensor]) -> Counts:
    """Run a network once, its numbers marked; it is left as it was."""
    counts = Counts(model)
    buffers = {name: tensor.detach().clone() for name, tensor in model.named_buffers()}
    with in_eval_mode(model), torch.no_grad(), kept_attributes(model), _marked(model), suppress(Exception), counts:
        model(*inputs)
    for name, tensor in model.named_buffers():
        if name in buffers and buffers[name].shape == tensor.shape:
            tensor.detach().copy_(buffers[name])
    return counts


@contextmanager
def _marked(model: nn.Module) -> Iterator[None]:
    """While the context lasts, whole numbers that modules of the user's hold know whose they are."""
    before: list[tuple[dict[str, Any], str, Any]] = []
    for path, module in model.named_modules():
        own = vars(module)
        foreign = not type(module).__module__.startswith("torch.nn.")
        for name, value in list(own.items()):
            read = foreign or (isinstance(module, nn.GroupNorm) and name == "num_groups")
            if read and type(value) is int and not name.startswith("_"):
                before.append((own, name, value))
                own[name] = Count(value, Number(path, name))
            elif isinstance(module, nn.Unflatten) and name == "unflattened_size" and isinstance(value, tuple | list):
                before.append((own, name, value))
                own[name] = tuple(
                    Count(size, Number(path, name, index)) if type(size) is int and size > 0 else size
                    for index, size in enumerate(value)
                )
    try:
        yield
    finally:
        for own, name, value in before:
            own[name] = value
