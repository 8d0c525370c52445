"""What the surgeon does to a network: each operation is data, and applies itself to the parts of a network, in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from slimnet.errors import SurgeryError
from slimnet.graph import MovesChannels
from slimnet.surgery.heads import keep_heads
from slimnet.surgery.modules import Constant, Expand, Stub
from slimnet.surgery.parts import OTHER, Parts

CHUNK = 2**22  # numbers converted to float64 at a time


class Operation(Protocol):
    """Something that is done to a network."""

    def apply(self, network: Parts) -> None:
        """Do it, in place.

        Raises:
            SurgeryError: if the network lacks a part that it names.
        """


@dataclass(frozen=True)
class Cut:
    """The entries that remain along one dimension of a parameter or buffer; ``size`` is the number there was."""

    name: str
    dim: int
    size: int
    kept: tuple[int, ...]

    def check(self, network: Parts) -> None:
        """Refuse a network that the cut does not fit.

        Raises:
            SurgeryError: naming the tensor and both sizes.
        """
        tensor = network.tensor(self.name)
        if tensor.dim() <= self.dim or tensor.shape[self.dim] != self.size:
            raise SurgeryError(
                f"{self.name} has shape {tuple(tensor.shape)}, the plan expects {self.size} along dimension {self.dim}: {OTHER}."
            )

    def apply(self, network: Parts) -> None:
        """In place, wherever the tensor is registered."""
        old = network.tensor(self.name).detach()
        network.put(self.name, old.index_select(self.dim, torch.tensor(self.kept, dtype=torch.int64, device=old.device)))


@dataclass(frozen=True)
class Fold:
    """Constants of removed input channels, moved to where they are still added.

    Attributes:
        weight, bias: names of the parameters of the layer that reads the channels; the bias is made where there is none.
        in_dim: dimension of the weight for input channels.
        columns: the removed input channels, before the cut.
        constants: their values.
        carrier: the input channel, before the cut, that carries the constants through a zero-padded convolution; -1 where
            they go into the bias.
        carrier_value: the constant value of that channel (0 where there is no carrier).
    """

    weight: str
    bias: str
    in_dim: int
    columns: tuple[int, ...]
    constants: tuple[float, ...]
    carrier: int = -1
    carrier_value: float = 0.0

    @property
    def makes_bias(self) -> bool:
        """Whether the bias may not be there yet."""
        return self.carrier < 0

    def apply(self, network: Parts) -> None:
        """Add Σ_j W[:, j]·k_j to the bias, or to the carrier's column divided by the carrier's own constant."""
        weight = network.tensor(self.weight)
        moved = self._contribution(weight.detach().movedim(self.in_dim, 1))  # (C_out, kernel…)
        if self.makes_bias:
            self._add_to_bias(network, weight, moved.flatten(1).sum(dim=1) if moved.dim() > 1 else moved)
            return
        changed = weight.detach().clone()
        column = changed.movedim(self.in_dim, 1)[:, self.carrier]
        column.copy_(column.to(torch.float64) + moved / self.carrier_value)
        weight.data = changed

    def _add_to_bias(self, network: Parts, weight: Tensor, shift: Tensor) -> None:
        if network.has_tensor(self.bias) or self.bias.rpartition(".")[0] != self.weight.rpartition(".")[0]:
            bias = network.tensor(self.bias)
            bias.data = (bias.detach().to(torch.float64) + shift).to(bias.dtype)
        else:
            network.add_parameter(self.bias, nn.Parameter(shift.to(weight.dtype), requires_grad=weight.requires_grad))

    def _contribution(self, weight: Tensor) -> Tensor:
        """What the removed columns of a weight (C_out, C_in, …) add up to: (C_out, …) float64."""
        constants = torch.tensor(self.constants, dtype=torch.float64, device=weight.device)
        columns = torch.tensor(self.columns, device=weight.device)
        step = max(1, CHUNK // max(1, weight[0].numel()))  # in pieces: float64 takes twice the memory
        pieces = [weight[start : start + step].index_select(1, columns) for start in range(0, len(weight), step)]
        return torch.cat([torch.einsum("oc...,c->o...", piece.to(torch.float64), constants) for piece in pieces])


@dataclass(frozen=True)
class Move:
    """Channels that remain before and behind a module that moves channels by numbers of its own."""

    module: str
    in_size: int
    inputs: tuple[int, ...]
    out_size: int
    outputs: tuple[int, ...]

    def apply(self, network: Parts) -> None:
        """Tell the module which channels remain.

        Raises:
            SurgeryError: if it cannot be told.
        """
        module = network.module(self.module)
        if not isinstance(module, MovesChannels):
            raise SurgeryError(f"{self.module} has no `keep_channels`: {OTHER}.")
        with torch.device("cpu"):  # whatever device the caller builds networks on
            module.keep_channels(_flags(self.in_size, self.inputs), _flags(self.out_size, self.outputs))


@dataclass(frozen=True)
class Count:
    """A whole number that a module counts channels with: what remains of them. ``index``: of a tuple, -1 for a number."""

    module: str
    name: str
    before: int
    after: int
    index: int = -1

    def apply(self, network: Parts) -> None:
        """Set it.

        Raises:
            SurgeryError: if the module has another number, or none.
        """
        module = network.module(self.module)
        held = vars(module).get(self.name)
        numbers = list(held) if isinstance(held, tuple | list) else [held]
        place = max(self.index, 0)
        if isinstance(held, tuple | list) != (self.index >= 0) or place >= len(numbers) or numbers[place] != self.before:
            raise SurgeryError(f"{self.module}.{self.name} is {held!r}, the plan expects {self.before}: {OTHER}.")
        numbers[place] = self.after
        setattr(module, self.name, numbers[0] if self.index < 0 else tuple(numbers))


@dataclass(frozen=True)
class Heads:
    """The heads of an attention that remain; ``size`` is the number there was."""

    module: str
    size: int
    kept: tuple[int, ...]

    def apply(self, network: Parts) -> None:
        """Set the module's own numbers."""
        keep_heads(network.module(self.module), self.size, self.kept)


@dataclass(frozen=True)
class Shut:
    """A branch whose output is constant and that is shut down.

    Attributes:
        module: the module that ends the branch; it becomes a constant.
        values: the constant, a number a channel that remains.
        dims: dimensions of the activation (4 for images).
        full: whether the constant must have the full shape (it is overwritten by the sum).
        others: the other modules of the branch; convolutions become stubs, the rest identities.
    """

    module: str
    values: tuple[float, ...]
    dims: int
    full: bool
    others: tuple[str, ...]

    def apply(self, network: Parts) -> None:
        """Put the constant in place of the branch."""
        for path in self.others:
            network.replace(path, _idle(network.module(path)))
        last = _idle(network.module(self.module))
        constant = Constant(_channels(self.values, self.dims, network.like), full=self.full)
        network.replace(self.module, nn.Sequential(last, constant) if isinstance(last, Stub) and self.full else constant)


@dataclass(frozen=True)
class Expansion:
    """A layer that computes its live rows only, with constants put in between.

    Attributes:
        module: the last module of the layer (the norm, or the convolution itself).
        live: the channels that are computed, among those that come out.
        values: the constants of the channels that come out (0 for live ones).
        dims: dimensions of the activation.
    """

    module: str
    live: tuple[int, ...]
    values: tuple[float, ...]
    dims: int

    def apply(self, network: Parts) -> None:
        """Wrap the layer."""
        size, device = len(self.values), network.like.device
        index = torch.full((size,), len(self.live), device=device)
        index[list(self.live)] = torch.arange(len(self.live), device=device)
        constant = _channels(self.values, self.dims, network.like) if any(self.values) else None
        network.replace(self.module, Expand(network.module(self.module), index, constant))


def _idle(module: nn.Module) -> nn.Module:
    """What stands for a module of a branch that is shut down: only the size of the map matters."""
    return Stub(module) if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) else nn.Identity()


def _channels(values: tuple[float, ...], dims: int, like: Tensor) -> Tensor:
    """A number a channel, (1, C, 1, …), of the kind and on the device of another tensor."""
    return torch.tensor(values, dtype=torch.float64).to(like).reshape(1, -1, *[1] * (dims - 2))


def _flags(size: int, chosen: tuple[int, ...]) -> Tensor:
    flags = torch.zeros(size, dtype=torch.bool)
    flags[list(chosen)] = True
    return flags
