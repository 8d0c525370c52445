"""slimnet's channel sets held against torch-pruning's: where they differ, who is right, by number."""

from __future__ import annotations

import math
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from slimnet._distance import relative
from slimnet._modes import flatten_outputs, unwrapped
from slimnet.errors import ArgumentError, GraphError, SurgeryError, TimeLimitError, one_line
from slimnet.graph import ChannelGroup, ExampleInputs, as_inputs, channel_groups, in_eval_mode
from slimnet.graph.dependency import Filter, cells, peer_cells, peer_slice
from slimnet.graph.recorded import kind_of, taken, trials
from slimnet.limits import within
from slimnet.surgery.copies import baked_copy, on_cpu
from slimnet.surgery.slim import slim
from slimnet.surgery.verify import TOLERANCE, expected_outputs

Cell = frozenset[Filter]
Out = TypeVar("Out")
PEER_SECONDS = 60.0
"""What torch-pruning may take: on some networks it does not come to an end."""


class NoAnswerError(GraphError):
    """torch-pruning has no channel sets of a network, or not in time."""


class _Peer:
    """torch-pruning, with a limit to the time that all its answers take together.

    Args:
        seconds: the limit.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = self._left = seconds

    def ask(self, function: Callable[..., Out], *arguments: Any) -> Out:
        """What ``function`` gives.

        Raises:
            NoAnswerError: if it fails, or does not end.
        """
        start = time.monotonic()
        try:
            return within(self._left, lambda: function(*arguments), what="torch-pruning did not end")
        except TimeLimitError:
            told = f"torch-pruning did not end in {self._seconds:g} s: give it longer with --cross-check-seconds."
            raise NoAnswerError(told) from None
        except GraphError as error:
            raise NoAnswerError(str(error)) from error
        finally:
            self._left = max(0.0, self._left - (time.monotonic() - start))


@dataclass(frozen=True)
class Trial:
    """A set of filters that was closed in float64 and cut.

    Attributes:
        filters: ``layer[channel]``; empty where this side has no such set.
        outcome: ``"cut"``; ``"stays"`` where nothing was cut; ``"fails"`` where the cut network does not run.
        error: max |Δ| ÷ max |masked| over all inputs, where it was cut.
        note: why it stays, or fails; else "".
    """

    filters: tuple[str, ...]
    outcome: Literal["cut", "stays", "fails"]
    error: float | None = None
    note: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether the set was cut and the network computes the same."""
        return self.error is not None and self.error <= TOLERANCE


@dataclass(frozen=True)
class Difference:
    """Channel sets over the same layers of which the two tools say different things; one of them was tried.

    Attributes:
        layers: the layers.
        channels: how many such sets slimnet or torch-pruning has, the larger number.
        ours, theirs: what became of the set of each.
        right: ``"both"`` where both cuts are exact, ``"torch-pruning"`` where slimnet keeps what can go, ``"slimnet"`` where
            torch-pruning's cut changes the output or does not run, ``"neither"`` where slimnet's own cut fails as well.
    """

    layers: tuple[str, ...]
    channels: int
    ours: Trial
    theirs: Trial
    right: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def cross_check(model: nn.Module, example_inputs: ExampleInputs, *, seconds: float = PEER_SECONDS) -> tuple[Difference, ...]:
    """Compare the channel sets of a network with those of torch-pruning.

    For each kind of difference one set is closed on a float64 copy (filters, biases, the norms behind them), cut as slimnet and
    as torch-pruning cut it, and run beside the masked one: on the example, and on random inputs of other batches and resolutions.
    Channels of the network's own outputs are left out: both tools leave them to the user.

    Args:
        model: any module that ``torch.export`` can follow; it is left as it was.
        example_inputs: a tensor or tuple of tensors, batch first.
        seconds: that torch-pruning may take in all.

    Returns:
        A difference for each set of layers; none where both agree.

    Raises:
        ArgumentError: if ``seconds`` is not above 0.
        GraphError: if slimnet does not get through the network.
        NoAnswerError: if torch-pruning does not, or takes longer.
    """
    if not seconds > 0:
        raise ArgumentError(f"`seconds` must be above 0, got {seconds}.")
    peer = _Peer(seconds)
    given = as_inputs(example_inputs)
    inputs = tuple(value.to("cpu", kind_of(value, torch.float64)) for value in given)
    network = on_cpu(baked_copy(unwrapped(model)), torch.float64).eval()
    groups = channel_groups(network, inputs)
    outputs = frozenset[Filter]().union(*cells(group for group in groups if group.pinned.startswith("output of the network")))
    pinned = {one: group.pinned for group in groups if group.pinned for cell in cells([group]) for one in cell}
    mine = cells(group for group in groups if not group.pinned)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = frozenset(cell for cell in peer.ask(peer_cells, network, inputs) if not cell <= outputs)
        found = []
        for layers, (own, other) in _kinds(mine - theirs, theirs - mine).items():
            ours = (
                _ours(network, inputs, groups, own[0])
                if own
                else Trial((), "stays", None, pinned.get(min(other[0]), "not followed"))
            )
            cut = _theirs(peer, network, inputs, groups, other[0]) if other else Trial((), "stays", None, "no such set")
            found.append(Difference(layers, max(len(own), len(other)), ours, cut, _right(ours, cut)))
    return tuple(found)


def _right(ours: Trial, theirs: Trial) -> str:
    if theirs.is_exact:
        return "both" if ours.is_exact else "torch-pruning"
    return "slimnet" if ours.is_exact or ours.outcome == "stays" else "neither"


def _kinds(mine: Iterable[Cell], theirs: Iterable[Cell]) -> dict[tuple[str, ...], tuple[list[Cell], list[Cell]]]:
    """Sets that share filters belong together; those over the same layers are of one kind. The sets of each, in order."""
    kinds: dict[tuple[str, ...], tuple[list[Cell], list[Cell]]] = defaultdict(lambda: ([], []))
    sides = [(cell, side) for side, found in enumerate((mine, theirs)) for cell in sorted(found, key=sorted)]
    at: dict[Filter, list[int]] = defaultdict(list)
    for number, (cell, _) in enumerate(sides):
        for one in cell:
            at[one].append(number)
    seen: set[int] = set()
    for number in range(len(sides)):
        together, waiting = set[int](), [number]
        while waiting:
            here = waiting.pop()
            if here not in seen:
                seen.add(here)
                together.add(here)
                waiting.extend(other for one in sides[here][0] for other in at[one])
        if together:
            layers = tuple(sorted({layer for member in together for layer, _ in sides[member][0]}))
            for member in sorted(together):
                kinds[layers][sides[member][1]].append(sides[member][0])
    return dict(kinds)


def _closed(network: nn.Module, groups: Iterable[ChannelGroup], cell: Cell) -> nn.Module:
    """A copy with the filters of a set at zero, and scale and shift of the norms behind their channels."""
    closed = baked_copy(network)
    tensors = dict(closed.named_parameters())
    for group in groups:
        channels = {channel for channel in range(group.size) if _filters(group, channel) & cell}
        for rows in (*group.filters, *group.norms):
            tensor = tensors.get(rows.name)
            if tensor is None:
                continue
            at = [
                int(index)
                for channel in channels
                for index in rows.index[channel]
                if rows in group.norms or (rows.module, int(index)) in cell
            ]
            changed = tensor.detach().clone()
            changed.movedim(rows.dim, 0)[at] = 0
            tensor.data = changed
    return closed


def _filters(group: ChannelGroup, channel: int) -> Cell:
    return frozenset((rows.module, int(index)) for rows in group.weights for index in rows.index[channel])


def _named(cell: Cell) -> tuple[str, ...]:
    return tuple(f"{layer}[{channel}]" for layer, channel in sorted(cell))


def _ours(network: nn.Module, inputs: tuple[Tensor, ...], groups: Iterable[ChannelGroup], cell: Cell) -> Trial:
    closed = _closed(network, groups, cell)
    try:
        result = slim(closed, inputs)
    except SurgeryError as error:
        return Trial(_named(cell), "fails", None, one_line(error))
    places = {rows.module: (rows.name, rows.dim) for group in groups for rows in group.weights}
    kept = {(cut.name, cut.dim): cut.kept for cut in result.plan.cuts}
    if any(places[layer] not in kept or row in kept[places[layer]] for layer, row in cell):
        why = [
            reason for group in result.plan.groups for reason in group.reasons if {*group.members} & {name for name, _ in cell}
        ]
        return Trial(_named(cell), "stays", None, "; ".join(dict.fromkeys(why)) or "stays")
    return Trial(_named(cell), "cut", result.report.verification.worst)


def _theirs(peer: _Peer, network: nn.Module, inputs: tuple[Tensor, ...], groups: Iterable[ChannelGroup], cell: Cell) -> Trial:
    closed = _closed(network, groups, cell)
    layer, channel = min(cell)
    try:
        small = peer.ask(peer_slice, closed, inputs, {layer: [channel]})
    except GraphError as error:
        return Trial(_named(cell), "fails", None, one_line(error))
    errors = []
    with in_eval_mode(closed, small), torch.no_grad():
        for name, given, expected in taken(
            trials(inputs, torch.float64), lambda _, given: expected_outputs(closed, given, given=False)
        ):
            try:
                found = flatten_outputs(small(*given))
            except Exception as error:
                return Trial(_named(cell), "fails", None, f"does not run on {name} input: {one_line(error)[:120]}")
            if [value.shape for value in found] != [value.shape for value in expected]:
                return Trial(_named(cell), "fails", None, "gives outputs of another shape")
            errors += [relative(want, got) for want, got in zip(expected, found, strict=True)]
    if not errors:
        return Trial(_named(cell), "fails", None, "the network itself gives nothing to compare")
    worst = max(errors)
    return Trial(_named(cell), "cut", worst) if math.isfinite(worst) else Trial(_named(cell), "fails", None, "gives NaN")
