"""The soft mask: what one scale ζ a channel does to weights, norms, gradients and momentum."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from slimnet._modes import unwrapped
from slimnet.errors import ArgumentError
from slimnet.graph.groups import ChannelGroup, Rows

_STATE_POWERS = {"momentum_buffer": 1, "exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2}
"""Optimiser state that follows a weight, and the power of its scale that it goes with."""


@dataclass(eq=False)
class _Target:
    """A tensor that masks act on, and which of its entries belong to which group.

    ``fades``: whether factors between 0 and 1 act on it; a filter with a masked norm behind it only closes.
    """

    tensor: Tensor
    fades: bool = True
    parts: dict[tuple[str, int], tuple[ChannelGroup, Rows]] = field(default_factory=dict)

    def differs(self, values: Mapping[str, Tensor]) -> bool:
        return any(bool((values[name] != 1).any()) for name, _ in self.parts)

    def spread(self, values: Mapping[str, Tensor]) -> Tensor:
        """The channels' values over the whole tensor, in its memory layout; 1 where no channel is."""
        out = torch.ones_like(self.tensor, memory_format=torch.preserve_format, requires_grad=False)
        for (name, dim), (group, rows) in self.parts.items():
            shape = [1] * out.dim()
            shape[dim] = out.shape[dim]
            vector = group.vector(values[name].to(out.device, out.dtype), rows, shape[dim])
            out.mul_(vector.view(shape))
        return out


class SoftMask:
    r"""One scale ζ ∈ [0, 1] a channel, over the groups of a network.

    ``set`` says what is to be; ``apply``, ``mask_gradients`` and ``mask_momentum`` do it, in place: they
    multiply every filter, its bias and γ and β of the norms behind it by the scale of its channel. A tensor
    that several groups share is multiplied once.

    A filter whose output goes straight into a masked norm keeps its weights while it fades, and is zeroed when it closes: the
    norm would divide a scale out again, so that γ and β alone decide what the network sees, and a filter of a thousandth of its
    size would only be thrown about by its own gradient. Running statistics are left alone: they stay those of the filter.

    A channel has two numbers: ``scale``, the level ζ where it now is (gradients are multiplied by it), and a
    factor, by which ``apply`` and ``mask_momentum`` multiply: the same, unless ``set`` is told otherwise.
    Both start at 1.

    Attributes:
        hooked: ids of tensors whose gradients somebody has multiplied by :meth:`of_gradient` as they came:
            ``mask_gradients`` leaves these alone.

    Example:
        >>> mask = SoftMask(model, groups)                              # doctest: +SKIP
        >>> mask.set("layer1.0.conv1", torch.tensor([1.0, 0.0, 0.5]))   # doctest: +SKIP
        >>> mask.apply()                                                # doctest: +SKIP
    """

    def __init__(self, model: nn.Module, groups: Iterable[ChannelGroup], mask_norm: bool = True) -> None:
        """Find the tensors of the groups once.

        Args:
            model: the network, on the device where it is trained.
            groups: the groups to mask; names must be unique.
            mask_norm: whether norms close with their filters. Without it a closed channel emits a constant.

        Raises:
            ArgumentError: if a group names a tensor that the model does not have.
        """
        self.groups = {group.name: group for group in groups}
        self.mask_norm = mask_norm
        self.scale = {name: torch.ones(group.size) for name, group in self.groups.items()}
        self._factor = {name: torch.ones(group.size) for name, group in self.groups.items()}
        self._weights = self._resolve(unwrapped(model))
        self.hooked: Collection[int] = ()
        self._soft: tuple[list[Tensor], list[Tensor]] | None = None
        self._by_id: dict[int, Tensor] | None = None
        self._hard: tuple[list[Tensor], list[Tensor]] | None = None
        self._held: list[Tensor] = []

    def set(self, name: str, scale: Tensor, factor: Tensor | None = None) -> None:
        """Set the channels of a group; nothing is multiplied yet.

        Args:
            name: name of the group.
            scale: (size,) ζ in [0, 1].
            factor: (size,) what ``apply`` multiplies by, at least 0 and finite; ``scale`` where it is not
                given.

        Raises:
            ArgumentError: if the group is unknown, or a value has the wrong shape or range.
        """
        if name not in self.groups:
            raise ArgumentError(f"no group {name!r} under the mask; there are: {', '.join(self.groups)}.")
        self.scale[name] = self._checked(name, scale, upper=1.0)
        self._factor[name] = self._checked(name, scale if factor is None else factor)
        self._soft = self._hard = self._by_id = None

    @torch.no_grad()
    def apply(self) -> None:
        """Multiply masked tensors by their factors, in place. A factor of 0 leaves +0, even of inf or nan."""
        for target in self._weights:
            factor = self._factor if target.fades else _closing(self._factor)
            if target.differs(factor):
                _multiply(target.tensor, target.spread(factor))

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Multiply gradients by ζ, in place. Costs one pass over tensors that have a ζ other than 1."""
        tensors, masks = self._soft_pairs()
        pairs = [
            (tensor.grad, mask)
            for tensor, mask in zip(tensors, masks, strict=True)
            if tensor.grad is not None and id(tensor) not in self.hooked
        ]
        if pairs:
            torch._foreach_mul_([gradient for gradient, _ in pairs], [mask for _, mask in pairs])

    def tensors(self) -> tuple[Tensor, ...]:
        """The parameters that the mask acts on, each once."""
        return tuple(target.tensor for target in self._weights)

    def of_gradient(self, tensor: Tensor) -> Tensor | None:
        """What the gradient of one of :meth:`tensors` is multiplied by, of its shape; None where that is 1 throughout."""
        if self._by_id is None:
            tensors, masks = self._soft_pairs()
            self._by_id = {id(each): mask for each, mask in zip(tensors, masks, strict=True)}
        return self._by_id.get(id(tensor))

    @torch.no_grad()
    def mask_momentum(self, optimizer: Optimizer) -> None:
        """Multiply the optimiser's running averages by the factors (squares by their square), in place."""
        for target in self._weights:
            state = optimizer.state.get(target.tensor)
            factor = self._factor if target.fades else _closing(self._factor)
            if not state or not target.differs(factor):
                continue
            mask = target.spread(factor)
            for key, power in _STATE_POWERS.items():
                if isinstance(state.get(key), Tensor):
                    _multiply(state[key], mask**power)

    @torch.no_grad()
    def hold(self) -> None:
        """Remember the masked tensors before an optimiser step, for :meth:`mask_update`."""
        self._held = [tensor.detach().clone() for tensor in self._soft_pairs()[0]]

    @torch.no_grad()
    def mask_update(self) -> None:
        """Shrink what an optimiser step did since :meth:`hold` to ζ of it, in place.

        This is the gradient mask for optimisers that divide by the gradient's size (Adam and its kin): they
        would undo it.
        """
        tensors, masks = self._soft_pairs()
        if self._held and len(self._held) == len(tensors):
            torch._foreach_lerp_(self._held, tensors, masks)
            torch._foreach_copy_(tensors, self._held)
        self._held = []

    @torch.no_grad()
    def enforce(self) -> None:
        """Set closed channels to zero again, in place, whatever an optimiser step did to them."""
        if self._hard is None:
            self._hard = self._pairs(_closing(self.scale))
        if self._hard[0]:
            torch._foreach_mul_(self._hard[0], self._hard[1])

    def closed(self) -> dict[str, Tensor]:
        """Group name → (size,) bool: where ζ is 0."""
        return {name: scale == 0 for name, scale in self.scale.items()}

    def selected(self) -> dict[str, Tensor]:
        """Group name → (size,) bool: where ζ is below 1."""
        return {name: scale < 1 for name, scale in self.scale.items()}

    def closed_share(self) -> float:
        """Closed channels ÷ all channels of the groups (0 without groups)."""
        total = sum(group.size for group in self.groups.values())
        return sum(int(closed.sum()) for closed in self.closed().values()) / total if total else 0.0

    def state_dict(self) -> dict[str, Tensor]:
        """Group name → (size,) ζ, copies."""
        return {name: scale.clone() for name, scale in self.scale.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take ζ from a saved state; nothing is multiplied: saved weights carry it already.

        Raises:
            ArgumentError: if the state is not one of these groups.
        """
        if set(state) != set(self.groups):
            odd = sorted(set(state) ^ set(self.groups))
            raise ArgumentError(f"the saved mask has other groups than this network, first difference: {odd[0]!r}.")
        for name, scale in state.items():
            self.set(name, scale, factor=torch.ones_like(scale))

    def _checked(self, name: str, values: Tensor, upper: float = torch.inf) -> Tensor:
        size = self.groups[name].size
        if tuple(values.shape) != (size,):
            raise ArgumentError(f"group {name!r} has {size} channels, got values of shape {tuple(values.shape)}.")
        values = values.detach().to("cpu", torch.float32, copy=True)
        if not bool(((values >= 0) & (values <= upper) & torch.isfinite(values)).all()):
            raise ArgumentError(f"scales of group {name!r} must be finite and in [0, {upper}], got {values.tolist()}.")
        return values

    def _resolve(self, model: nn.Module) -> list[_Target]:
        tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
        weights: dict[int, _Target] = {}
        for group in self.groups.values():
            for rows in (*group.filters, *(group.norms if self.mask_norm else ())):
                if rows.name not in tensors:
                    raise ArgumentError(f"group {group.name!r} names {rows.name!r}, which the model does not have.")
                tensor = tensors[rows.name]
                if not isinstance(tensor, nn.Parameter):
                    continue
                fades = not (self.mask_norm and rows.name in group.normed)
                target = weights.setdefault(id(tensor), _Target(tensor, fades))
                target.parts.setdefault((group.name, rows.dim), (group, rows))
        return list(weights.values())

    def _soft_pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        if self._soft is None:
            self._soft = self._pairs(self.scale)
        return self._soft

    def _pairs(self, values: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters in which some value is not 1, and the values spread over them."""
        targets = [target for target in self._weights if target.differs(values)]
        return [target.tensor for target in targets], [target.spread(values) for target in targets]


def _closing(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """0 where a value is 0, else 1."""
    return {name: (value != 0).to(value.dtype) for name, value in values.items()}


def _multiply(tensor: Tensor, mask: Tensor) -> None:
    tensor.mul_(mask).masked_fill_(mask == 0, 0)
