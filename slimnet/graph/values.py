"""What the analysis knows of a tensor: which channel each position carries, and where it is constant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NONE = 0  # the label of a position that belongs to no channel


@dataclass(frozen=True, eq=False)
class Value:
    """Labels and constants of an activation.

    Both tensors have one dimension per dimension of the activation, of its size, or of size 1 where nothing varies along it.

    Attributes:
        shape: shape of the activation.
        labels: int64; which channel a position carries (:data:`NONE` for none).
        constant: float64; the value of a position that does not depend on the network's input, NaN where it does.
        faded: (C,) float64 behind an average pool that counts zero padding, else None: what a channel was before that, NaN where
            it was live. Such a channel is that number times a pattern which all of them share.
    """

    shape: tuple[int, ...]
    labels: Tensor
    constant: Tensor
    faded: Tensor | None = None

    @property
    def varying(self) -> tuple[int, ...]:
        """The dimensions along which the labels differ."""
        return tuple(dim for dim, size in enumerate(self.labels.shape) if size > 1)

    def along(self, dim: int) -> Tensor | None:
        """(shape[dim],) labels if they vary along ``dim`` alone, else None."""
        dim %= len(self.shape)
        if any(other != dim for other in self.varying):
            return None
        return self.labels.reshape(-1).expand(self.shape[dim])

    def constant_along(self, dim: int) -> Tensor:
        """(shape[dim],) constants; NaN where a value is live or differs within the channel."""
        dim %= len(self.shape)
        full = self.constant.movedim(dim, 0).reshape(self.constant.shape[dim], -1)
        first = full[:, :1]
        uniform = torch.where((full == first).all(dim=1), first[:, 0], torch.nan)
        return uniform.expand(self.shape[dim])

    def map(self, function: Callable[[Tensor], Tensor], shape: tuple[int, ...] | None = None) -> Value:
        """Apply an operator that only moves positions to the labels and the constants.

        Args:
            function: the operator.
            shape: of what it makes, for a tensor without entries: that is moved as if it had one in each empty dimension.
        """
        labels, constant = (function(tensor.expand(some(self.shape))) for tensor in (self.labels, self.constant))
        return Value(tuple(labels.shape) if shape is None else shape, compact(labels), compact(constant))

    @property
    def is_sound(self) -> bool:
        """Whether labels and constants have the sizes that they must have."""
        return all(
            tensor.dim() == len(self.shape)
            and all(size in (1, full) for size, full in zip(tensor.shape, self.shape, strict=True))
            for tensor in (self.labels, self.constant)
        ) and 0 not in (*self.labels.shape, *self.constant.shape)


def some(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape with one entry in each dimension that has none."""
    return tuple(max(1, size) for size in shape)


def compact(tensor: Tensor) -> Tensor:
    """Reduce every dimension along which ``tensor`` does not vary to size 1."""
    for dim in range(tensor.dim()):
        if tensor.shape[dim] > 1 and tensor.stride(dim) == 0:
            tensor = tensor.narrow(dim, 0, 1)
    for dim in range(tensor.dim()):
        if tensor.shape[dim] > 1:
            first = tensor.narrow(dim, 0, 1)
            same = tensor == first
            if tensor.is_floating_point():
                same |= tensor.isnan() & first.isnan()
            if bool(same.all()):
                tensor = first
    return tensor.contiguous()


def any_along(flags: Tensor, dim: int) -> Tensor:
    """Whether any flag is set along a dimension (``Tensor.any`` is many times slower)."""
    if flags.shape[dim] == 0:
        return flags.any(dim=dim)
    return flags.view(torch.uint8).amax(dim=dim).to(torch.bool)


def live(shape: tuple[int, ...]) -> Tensor:
    """Constants of a tensor of which nothing is known: NaN everywhere."""
    return torch.full((1,) * len(shape), torch.nan, dtype=torch.float64)


class Labels:
    """Channel labels and which of them are one (union–find), with the reasons that pin some of them."""

    def __init__(self) -> None:
        self._parent: list[int] = [NONE]
        self._lost: list[tuple[Tensor, str]] = []
        self.pins: dict[int, str] = {}
        self.place: Callable[[str], str] | None = None  # adds to a reason where the operator is that gives it
        self._placed: set[str] = set()
        self._table: Tensor | None = None

    def __len__(self) -> int:
        return len(self._parent)

    def fresh(self, count: int) -> Tensor:
        """``count`` new labels, (count,) int64."""
        start = len(self._parent)
        self._table = None
        self._parent.extend(range(start, start + count))
        return torch.arange(start, start + count)

    def find(self, label: int) -> int:
        """The representative of a label."""
        root = label
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[label] != root:
            self._parent[label], label = root, self._parent[label]
        return root

    def unite(self, first: Tensor, second: Tensor) -> None:
        """Make the labels of two tensors of one shape the same, position by position (NONE ties nothing)."""
        both = (first != NONE) & (second != NONE) & (first != second)
        pairs = torch.stack([first[both], second[both]], dim=1)
        for left, right in torch.unique(pairs, dim=0).tolist() if len(pairs) else ():
            one, other = sorted((self.find(left), self.find(right)))
            if one != other:
                self._parent[other] = one
                self._table = None
                if other in self.pins:
                    self.pins.setdefault(one, self.pins[other])

    def pin(self, labels: Tensor, reason: str) -> None:
        """Keep these channels whatever their weights are; the first reason given stays."""
        for label in torch.unique(labels).tolist():
            if label != NONE and (root := self.find(label)) not in self.pins:
                self.pins[root] = self.placed(reason)

    def placed(self, reason: str) -> str:
        """A reason with the place of the operator that gives it; one that has a place already is as it was."""
        if self.place is None or reason in self._placed:
            return reason
        told = self.place(reason)
        self._placed.add(told)
        return told

    def lose(self, labels: Tensor, reason: str) -> None:
        """Note why channels that were constant vary from here on."""
        if len(labels):
            self._lost.append((labels, self.placed(reason)))

    def losses(self) -> dict[int, str]:
        """Representative → why the channel varies although it was constant somewhere."""
        found: dict[int, str] = {}
        for labels, reason in self._lost:
            for root in torch.unique(self.roots(labels)).tolist():
                found.setdefault(root, reason)
        return found

    def reason(self, label: int) -> str:
        """Why the channel may not be removed, "" where it may."""
        root = self.find(label)
        return self.pins.get(root, "")

    def roots(self, labels: Tensor) -> Tensor:
        """The representatives of ``labels``, same shape."""
        if self._table is None:
            self._table = torch.tensor([self.find(label) for label in range(len(self._parent))])
        return self._table[labels]
