"""Which channels can go without changing what the network computes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from slimnet.graph import Analysis, ChannelGroup, Number, Pieces, Reader, Summand
from slimnet.graph.values import NONE, any_along

Align = int | Mapping[str, int] | None
"""Closed channels that stay: up to a multiple of so many in every group, or up to a width of a group of its own."""


@dataclass(eq=False)
class Link:
    """A reader with everything the search asks of it.

    Attributes:
        reader: the reader.
        outputs, inputs: (C_out,), (C_in,) representatives of the labels.
        live: (C_in,) bool; columns whose value depends on the network's input.
        carried: (C_in,) bool; constant columns that cannot go into the bias.
        repeats: whether its weight and bias are changed for an earlier reader, which sees the same constants.
        seen: (C_out,) bool; rows that are known to be needed.
        read: (C_in,) bool; columns that these rows read.
    """

    reader: Reader
    outputs: Tensor
    inputs: Tensor
    live: Tensor
    carried: Tensor
    seen: Tensor
    read: Tensor
    repeats: bool = False

    def look(self, rows: Tensor) -> Tensor:
        """Add rows, (C_out,) bool, to those needed, each of them once; ``read`` after that."""
        new = rows & ~self.seen
        if bool(new.any()):
            self.read = self.read | any_along(self.reader.used[new], 0)
            self.seen = self.seen | new
        return self.read


class Search:
    """Marks the channels that are needed, from the network's output backwards, until nothing changes.

    Attributes:
        needed: (labels,) bool over representatives; those in no group belong to no layer, and stay.
        shut: summands that are constant: their branches are shut down.
        gone: the modules of these branches.
        pieces: channels that the network's code counts.
        why: representative → reason, for channels that are kept although they could be spared.
    """

    def __init__(
        self,
        analysis: Analysis,
        groups: tuple[ChannelGroup, ...],
        *,
        shut: bool = True,
        only: Collection[str] | None = None,
        keep: Mapping[str, str] | None = None,
    ) -> None:
        self.analysis = analysis
        self.groups = groups
        self.shut = [summand for summand in analysis.summands if shut and only is None and _is_constant(summand)]
        self.gone = frozenset(path for summand in self.shut for path in summand.shuts)
        uses = Counter(name for reader in analysis.readers for name in (reader.weight, reader.bias))
        readers = [reader for reader in analysis.readers if reader.weight.rpartition(".")[0] not in self.gone]
        alike: dict[str, list[Reader]] = defaultdict(list)
        for reader in analysis.readers:
            alike[reader.weight].append(reader)
        self.links = [_link(analysis, reader, alike[reader.weight], uses) for reader in readers]
        self.differing: dict[int, str] = {}
        for link in self.links:
            self._note_differing(link, alike[link.reader.weight])
        self.needed = torch.ones(len(analysis.labels), dtype=torch.bool)
        self.needed[[root for group in groups for root in group.roots]] = False
        self.why: dict[int, str] = {}
        self.pieces = _merged(analysis.pieces)
        for added in analysis.sums:
            self._need(analysis.roots(added.labels[added.live]))
        self._carriers: dict[int, int] = {}  # index of a link → the column that carries constants
        for group in groups:
            if group.pinned or (only is not None and group.name not in only):
                self.needed[list(group.roots)] = True
            if keep and group.name in keep:
                self.keep(list(group.roots), keep[group.name])

    def _note_differing(self, link: Link, alike: Sequence[Reader]) -> None:
        """Why constant channels count as live: a weight is used again, where it reads other constants."""
        known = [~reader.constants.isnan() for reader in alike]
        held = link.live & torch.stack(known).all(0) & (link.inputs != NONE)
        times = "twice" if len(alike) == 2 else f"{len(alike)} times"
        for root in link.inputs[held].tolist():
            self.differing.setdefault(root, f"constant, but {link.reader.weight} is used {times} and reads other constants there")

    def run(self, align: Align = None) -> None:
        """Find the largest set of channels that can go; then keep what carriers, empty layers and alignment ask for."""
        self._settle()
        while align and sum(self._align(group, align) for group in self.groups):
            self._settle()

    def _settle(self) -> None:
        self._mark()
        while self._add_carriers() or self._fill_empty() or self._balance():
            self._mark()

    def _need(self, roots: Tensor) -> None:
        self.needed[roots[roots != NONE]] = True

    def keep(self, roots: list[int], reason: str) -> None:
        """Keep channels whatever their weights are."""
        for root in roots:
            self.needed[root] = True
            self.why.setdefault(root, reason)

    def _mark(self) -> None:
        changed = True
        while changed:
            changed = False
            for link in reversed(self.links):
                read = link.look(self._is_needed(link.outputs)) & link.live
                read = read & (link.inputs != NONE) & ~self._is_needed(link.inputs)
                if bool(read.any()):
                    self.needed[link.inputs[read]] = True
                    changed = True

    def _is_needed(self, roots: Tensor) -> Tensor:
        """Whether each root is needed; positions without a label always are."""
        return self.needed[roots] | (roots == NONE)

    def dropped_constants(self, link: Link) -> Tensor:
        """(C_in,) bool: removed columns whose constant must be added elsewhere."""
        read = link.look(self._is_needed(link.outputs))
        return read & ~link.live & ~self._is_needed(link.inputs) & (link.reader.constants != 0)

    def _add_carriers(self) -> bool:
        """Choose a channel to carry constants through each zero-padded convolution that needs one."""
        added = False
        for index, link in enumerate(self.links):
            wanted = self.dropped_constants(link) & link.carried
            if link.repeats or not bool(wanted.any()) or self.carrier(index) >= 0:
                continue
            magnitude = torch.where(link.live, 0.0, link.reader.constants.abs().nan_to_num(0.0))
            magnitude = torch.where(link.inputs == NONE, 0.0, magnitude)
            kept = torch.where(self._is_needed(link.inputs), magnitude, 0.0)
            column = int((kept if bool(kept.any()) else magnitude).argmax())
            self._carriers[index] = column
            if not bool(self.needed[link.inputs[column]]):
                self.keep([int(link.inputs[column])], "carries the constants of removed channels past zero padding")
                added = True
        return added

    def carrier(self, index: int) -> int:
        """The column of a link that carries constants, -1 for none."""
        return self._carriers.get(index, -1)

    def _fill_empty(self) -> bool:
        """Keep one channel in every dimension that would be left with none."""
        for entry in self.analysis.entries.values():
            if entry.name.rpartition(".")[0] in self.gone:
                continue
            roots = self.analysis.roots(entry.labels)
            if not bool(self._is_needed(roots).any()):
                self.keep([int(roots[0])], "a layer needs at least one channel")
                return True
        return False

    def remaining(self, pieces: Pieces) -> list[int]:
        """How many channels of each piece remain."""
        return [int(self._is_needed(self.analysis.roots(part)).sum()) for part in pieces.parts]

    def _balance(self) -> bool:
        """Keep spare channels where the code counts pieces, so that they have the proportion that it expects."""
        for pieces in self.pieces:
            counts = self.remaining(pieces)
            unit = max(1, *(-(-count // weight) for count, weight in zip(counts, pieces.weights, strict=True)))
            for part, count, weight in zip(pieces.parts, counts, pieces.weights, strict=True):
                if count < unit * weight:
                    spare = self._spare(self.analysis.roots(part))[: unit * weight - count]
                    self.keep(spare, f"kept so that the pieces stay in proportion ({pieces.where})")
                    return True
        return False

    def _spare(self, roots: Tensor) -> list[int]:
        """Those channels of some that may go, in the order in which they are kept where a few must be: most weight left first.

        To what the network computes none adds anything. But training on can make use of one whose norm, or whose columns in the
        layers that read it, are not zero; in channels of which all is zero nothing ever changes.
        """
        spare = roots[~self._is_needed(roots)]
        return spare[self._weight_left[spare].argsort(descending=True, stable=True)].tolist()

    @cached_property
    def _weight_left(self) -> Tensor:
        """(labels,) The squares of all weights that make, scale or read a channel, each relative to the mean of its tensor."""
        left = torch.zeros(len(self.needed), dtype=torch.float64)
        for entry in self.analysis.entries.values():
            path, _, attribute = entry.name.rpartition(".")
            value = (
                getattr(self.analysis.model.get_submodule(path), attribute).detach().abs().movedim(entry.dim, 0).cpu().double()
            )
            squares = value.reshape(len(value), -1).square().sum(1)
            roots = self.analysis.roots(entry.labels)
            known = (roots != NONE) & (roots < len(left))
            left.index_add_(0, roots[known], squares[known] / squares.mean().clamp(min=torch.finfo(torch.float64).tiny))
        return left

    def _align(self, group: ChannelGroup, align: int | Mapping[str, int]) -> bool:
        """Keep spare channels up to a multiple, or to the width that is asked for; whether any were."""
        roots = torch.tensor(group.roots)
        spare, kept = self._spare(roots), int(self.needed[roots].sum())
        if isinstance(align, int):
            missing, reason = -kept % align, f"aligned to a multiple of {align}"
        else:
            width = align.get(group.name, 0)
            missing, reason = max(0, width - kept), f"kept up to {width} channels, which run faster here"
        self.keep(spare[:missing], reason)
        return bool(spare[:missing])


def _merged(found: list[Pieces]) -> list[Pieces]:
    """Pieces that are counted with one number of a module are tied to each other wherever they are."""
    by_number: dict[Number, list[Pieces]] = {}
    for pieces in found:
        if pieces.number is not None:
            by_number.setdefault(pieces.number, []).append(pieces)
    joined = [
        Pieces(
            tuple(part for pieces in same for part in pieces.parts),
            tuple(weight for pieces in same for weight in pieces.weights),
            same[0].where,
            number,
        )
        for number, same in by_number.items()
    ]
    return [*(pieces for pieces in found if pieces.number is None), *joined]


def _is_constant(summand: Summand) -> bool:
    return summand.other_is_live and not bool(summand.constants.isnan().any())


def _link(analysis: Analysis, reader: Reader, alike: Sequence[Reader], uses: Mapping[str, int]) -> Link:
    """A reader, with what becomes of the constants that it reads.

    A weight that is used again (a Siamese network, a shared head) has several readers. Where each has a bias that is its own,
    each folds its constants there. Otherwise what is changed for one is changed for all: only constants that all of them see
    alike can go, and they are folded once.

    Args:
        analysis: of the network.
        reader: the reader.
        alike: all readers of its weight.
        uses: how often each weight and bias is used.
    """
    apart = all(other.foldable and other.bias and uses[other.bias] == 1 for other in alike)
    joint = [reader] if apart else alike
    values = torch.stack([other.constants for other in joint])
    differ = (values != values[:1]).any(0)  # also where one is NaN
    live = reader.constants.isnan() | (differ & (reader.constants != 0))
    own_bias = {other.bias for other in joint} == {reader.bias} and all(other.has_bias for other in joint)
    own_bias &= not reader.bias or uses[reader.bias] == len(joint)
    into_bias = own_bias and all(other.foldable for other in joint)
    carried = ~live & (reader.constants != 0) & (not into_bias)
    seen, read = (torch.zeros(len(labels), dtype=torch.bool) for labels in (reader.outputs, reader.inputs))
    repeats = joint[0] is not reader
    return Link(reader, analysis.roots(reader.outputs), analysis.roots(reader.inputs), live, carried, seen, read, repeats)
