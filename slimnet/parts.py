"""A part of a network as a network of its own: submodules by name, wired as the whole network wires them.

What a whole network does is not always to be followed (boxes that are decoded, images that are resized); its backbone and its
head are. A part has the very modules of the network under the names that they have there, so that what is found of the part, or
done to it, holds for the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from slimnet._foreign import no_exit
from slimnet._modes import flatten_outputs, in_eval_mode, mapped, output_names, unwrapped
from slimnet.errors import ArgumentError, GraphError, did_you_mean, one_line

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Slot:
    """Where a submodule gets a tensor from: an input of the part (``of`` is ""), or an output of an earlier submodule."""

    of: str
    number: int


@dataclass(frozen=True, eq=False)
class Step:
    """One submodule, its arguments with a :class:`Slot` in the place of each tensor, and which of its outputs leave the part."""

    name: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    leaving: tuple[int, ...]
    names: tuple[str, ...]


class Part(nn.Module):
    """Submodules of a network, under the names that they have there; tensors in, a dictionary of named tensors out."""

    def __init__(self, network: nn.Module, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps = tuple(steps)
        for step in steps:
            _put(self, step.name, network.get_submodule(step.name))

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        """The outputs that leave the part, by name."""
        made: dict[str, Sequence[Tensor]] = {"": inputs}
        leaving: dict[str, Tensor] = {}

        def filled(value: Any) -> Any:
            return mapped(value, lambda leaf: made[leaf.of][leaf.number] if isinstance(leaf, Slot) else leaf)

        for step in self.steps:
            found = self.get_submodule(step.name)(*filled(step.arguments), **filled(step.keywords))
            made[step.name] = outputs = flatten_outputs(found)
            leaving.update({name: outputs[number] for number, name in zip(step.leaving, step.names, strict=True)})
        return leaving


@dataclass(frozen=True, eq=False)
class Caught:
    """A part of a network, and what it takes.

    Attributes:
        name: as it was asked for, ``"backbone+head"``.
        module: the part; its modules are those of the network.
        inputs: what it takes where the network takes the example inputs.
        inner: whether outputs of one submodule that nobody but another reads are no outputs of the part.
    """

    name: str
    module: Part
    inputs: Inputs
    inner: bool


def check_part(model: nn.Module, part: str) -> tuple[str, ...]:
    """The submodules that a part names, joined by ``+``.

    Raises:
        ArgumentError: if one is not there, comes twice, or lies in another.
    """
    names = tuple(name.strip() for name in part.split("+"))
    known = [name for name, _ in unwrapped(model).named_modules() if name]
    for name in names:
        if name not in known:
            direct = [each for each in known if "." not in each]
            raise ArgumentError(f"`part` {name!r} is no submodule of {type(unwrapped(model)).__name__}"
                                + did_you_mean(name, known, f"; there are: {', '.join(direct)}."))  # fmt: skip
        inside = [other for other in names if name.startswith(f"{other}.")]
        if names.count(name) > 1 or inside:
            raise ArgumentError(
                f"`part` {part!r} names {name!r} twice." if not inside else f"{name!r} is in {inside[0]!r} already."
            )
    return names


def catch_part(model: nn.Module, example_inputs: Tensor | Inputs, part: str, *, closed: bool = False) -> Caught:
    """Run a network once, and take a part out of it: its modules, what it takes, and what of it is read elsewhere.

    Args:
        model: the network; it is left as it was.
        example_inputs: what it takes, a tensor or a tuple of tensors.
        part: names of submodules, joined by ``+``, e.g. ``"backbone+head"``.
        closed: whether every output of each submodule is an output of the part. Otherwise those are not that only other
            submodules of the part read. The shape of a tensor may be read by anybody.

    Raises:
        ArgumentError: if there is no such submodule.
        GraphError: if the network does not run, a submodule does not run in it or more than once, takes or gives no tensors, or
            its weights are used outside it.
    """
    network = unwrapped(model)
    names = check_part(network, part)
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    watch = _Watch(network, names)
    with in_eval_mode(network), torch.no_grad(), watch.watching():
        try:
            with no_exit(type(network).__name__):
                output = network(*inputs)
        except GraphError:
            raise
        except Exception as error:
            raise GraphError(f"{type(network).__name__} does not run on the example inputs: {one_line(error)}") from error
    return watch.caught(part, closed=not watch.give(output) or closed)


@dataclass(eq=False)
class _Call:
    name: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    outputs: list[Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the calls of submodules, and who else reads what they give or their weights."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.network, self.names = network, names
        self.calls: list[_Call] = []
        self.depth = 0  # in how many of the submodules the program is
        self.made: set[int] = set()  # memory of what the submodules gave; held in `calls`, so that none is used again
        self.read: set[int] = set()  # those of it that others read
        self.owned = {
            _memory(tensor): f"{name}.{own}" for name in names for own, tensor in _tensors_of(network.get_submodule(name))
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.depth:
            for tensor in flatten_outputs([args, kwargs or {}]):
                memory = _memory(tensor)
                if memory in self.owned and memory not in self.made:
                    raise GraphError(
                        f"{self.owned[memory]} is used outside of its module too, by {func}: "
                        "name a part that holds all that uses it."
                    )
                self.read.update({memory} & self.made)
        return func(*args, **(kwargs or {}))

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name in self.names:
                module = self.network.get_submodule(name)
                for handle in (
                    module.register_forward_pre_hook(self._before(name), with_kwargs=True),
                    module.register_forward_hook(self._after, always_call=False),
                ):
                    stack.callback(handle.remove)
            stack.enter_context(self)
            yield

    def _before(self, name: str) -> Any:
        def hook(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            if any(call.name == name for call in self.calls):
                raise GraphError(f"{name} runs more than once in the network: name the module around its calls as the part.")
            if self.depth:
                raise GraphError(f"{name} runs within another submodule of the part: name that one alone.")
            self.calls.append(_Call(name, arguments, keywords))
            self.depth += 1

        return hook

    def _after(self, _: nn.Module, __: Any, output: Any) -> None:
        self.depth -= 1
        self.calls[-1].outputs = flatten_outputs(output)
        self.calls[-1].names = output_names(output)
        self.made.update(map(_memory, self.calls[-1].outputs))

    def give(self, output: Any) -> bool:
        """What the whole network gives is read by its user; whether that is all seen."""
        given = flatten_outputs(output)
        self.read.update(set(map(_memory, given)) & self.made)
        return bool(given)

    def caught(self, part: str, *, closed: bool) -> Caught:
        """What was seen, as a part.

        Raises:
            GraphError: if that makes none.
        """
        for name in self.names:
            if all(call.name != name for call in self.calls):
                raise GraphError(f"{name} does not run in the network: it is no part that can be cut.")
        inputs: list[Tensor] = []
        wired: set[tuple[str, int]] = set()
        steps = []
        for position, call in enumerate(self.calls):
            earlier = self.calls[:position]

            def slot(leaf: Any, earlier: Sequence[_Call] = earlier, name: str = call.name) -> Any:
                if not isinstance(leaf, Tensor):
                    _refuse_hidden(leaf, name)
                    return leaf
                for other in earlier:
                    for number, made in enumerate(other.outputs):
                        if made is leaf:
                            wired.add((other.name, number))
                            return Slot(other.name, number)
                if all(leaf is not known for known in inputs):
                    inputs.append(leaf)
                return Slot("", next(number for number, known in enumerate(inputs) if known is leaf))

            steps.append((call, mapped(call.arguments, slot), mapped(dict(call.keywords), slot)))
            if not call.outputs:
                raise GraphError(f"{call.name} gives no tensors: it is no part that can be cut.")
        leaving = {
            call.name: [
                number
                for number, tensor in enumerate(call.outputs)
                if closed or (call.name, number) not in wired or _memory(tensor) in self.read
            ]
            for call in self.calls
        }
        several = sum(bool(numbers) for numbers in leaving.values()) > 1
        made = [
            Step(
                name=call.name,
                arguments=arguments,
                keywords=keywords,
                leaving=tuple(leaving[call.name]),
                names=tuple(f"{call.name}.{call.names[n]}" if several else call.names[n] for n in leaving[call.name]),
            )
            for call, arguments, keywords in steps
        ]
        if not inputs:
            raise GraphError(f"{part} takes no tensors: it is no part that can be cut.")
        inner = any(len(leaving[call.name]) < len(call.outputs) for call in self.calls)
        return Caught(part, Part(self.network, made), tuple(x.detach().clone() for x in inputs), inner)


def _refuse_hidden(leaf: Any, name: str) -> None:
    """What holds tensors in a way of its own would be taken for a constant."""
    held = vars(leaf).values() if hasattr(leaf, "__dict__") and not isinstance(leaf, type | nn.Module) else ()
    if any(isinstance(value, Tensor) for value in held):
        raise GraphError(f"{name} takes a {type(leaf).__name__}, which holds tensors of its own: name a part that takes tensors.")


def _put(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register a module under its full name, with empty modules on the way."""
    *parents, last = path.split(".")
    for name in parents:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, module)


def _tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
