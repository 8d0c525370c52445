"""The verb: remove every channel that can go."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from slimnet.errors import ArgumentError
from slimnet.graph import Analysis, ChannelGroup, ExampleInputs, analyse, stream_groups
from slimnet.graph.values import NONE
from slimnet.surgery.bake import baked_copy
from slimnet.surgery.cut import apply_plan
from slimnet.surgery.find import Search
from slimnet.surgery.optimizer import move_optimizer
from slimnet.surgery.plan import Cut, Fold, GroupPlan, Move, Plan
from slimnet.surgery.verify import Verification, verify


@dataclass(frozen=True)
class SlimReport:
    """What surgery did.

    Attributes:
        verification: the comparison with the model before.
        params_before, params_after: numbers of parameters.
        closed, removed: channels with zero filters in all their layers; channels removed.
        seconds: analysis and cut; ``verify_seconds``: the comparison.
    """

    verification: Verification
    params_before: int
    params_after: int
    closed: int
    removed: int
    seconds: float
    verify_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.__dict__, "verification": self.verification.as_dict()}


@dataclass(frozen=True, eq=False)
class SlimResult:
    """A slim model, the plan that made it, and what was checked."""

    model: nn.Module
    plan: Plan
    report: SlimReport


def slim(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    align: int | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> SlimResult:
    """Remove, exactly, every channel that does not matter to the output, whatever left the zeros.

    Args:
        model: any module that ``torch.export`` can follow; it is left as it was.
        example_inputs: a tensor or tuple of tensors, batch first; best real data, on which the result is verified.
        align: keep closed channels so that each group has a multiple of this many; None keeps none.
        optimizer: taken along, in place: it then holds the parameters and the state of the slim model.

    Returns:
        The slim model (a plain module of the same classes, without masks and hooks), the plan, and the report.

    Raises:
        ArgumentError: if ``align`` is not positive.
        GraphError: if the model cannot be analysed.
        VerificationError: if the slim model computes something else in float64; nothing is returned.
    """
    if align is not None and align < 1:
        raise ArgumentError(f"`align` must be a positive number of channels, got {align}.")
    start = time.perf_counter()
    small = baked_copy(model)
    plan = make_plan(small, example_inputs, align=align)
    apply_plan(plan, small)
    cut_done = time.perf_counter()
    verification = verify(model, small, example_inputs, plan=plan)
    done = time.perf_counter()
    if optimizer is not None:
        move_optimizer(optimizer, model, small, plan)
    report = SlimReport(
        verification=verification,
        params_before=_size(model),
        params_after=_size(small),
        closed=sum(group.closed for group in plan.groups),
        removed=sum(group.size - len(group.kept) for group in plan.groups),
        seconds=cut_done - start,
        verify_seconds=done - cut_done,
    )
    return SlimResult(small, plan, report)


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def make_plan(model: nn.Module, example_inputs: ExampleInputs, *, align: int | None = None) -> Plan:
    """Find what can go, without touching the model.

    Raises:
        GraphError: if the model cannot be analysed.
    """
    analysis = analyse(model, example_inputs)
    groups = stream_groups(analysis)
    search = Search(analysis, groups)
    search.run(align)
    folds = _folds(search)
    return Plan(
        groups=tuple(_group_plan(analysis, group, search) for group in groups if group.weights),
        cuts=(*_cuts(analysis, search), *_cuts_of_new_biases(analysis, search, folds)),
        folds=tuple(folds),
        moves=tuple(_moves(analysis, search)),
    )


def _kept(analysis: Analysis, search: Search, labels: Tensor) -> tuple[int, ...]:
    roots = analysis.roots(labels)
    return tuple((search.needed[roots] | (roots == NONE)).nonzero().flatten().tolist())


def _cuts(analysis: Analysis, search: Search) -> list[Cut]:
    cuts = []
    for entry in analysis.entries.values():
        kept = _kept(analysis, search, entry.labels)
        if len(kept) < len(entry.labels):
            cuts.append(Cut(entry.name, entry.dim, len(entry.labels), kept))
    return cuts


def _cuts_of_new_biases(analysis: Analysis, search: Search, folds: list[Fold]) -> list[Cut]:
    made = {fold.weight: fold.bias for fold in folds if fold.carrier < 0}
    cuts = []
    for link in search.links:
        reader = link.reader
        if reader.weight in made and not reader.bias:
            kept = _kept(analysis, search, reader.outputs)
            cuts.append(Cut(made[reader.weight], 0, len(reader.outputs), kept))
    return cuts


def _moves(analysis: Analysis, search: Search) -> list[Move]:
    moves = []
    for module, (inputs, outputs) in analysis.movers.items():
        before, behind = _kept(analysis, search, inputs), _kept(analysis, search, outputs)
        if len(before) < len(inputs) or len(behind) < len(outputs):
            moves.append(Move(module, len(inputs), before, len(outputs), behind))
    return moves


def _folds(search: Search) -> list[Fold]:
    folds = []
    for index, link in enumerate(search.links):
        reader, dropped = link.reader, search.dropped_constants(link)
        for carried in (False, True):
            columns = (dropped & (link.carried == carried)).nonzero().flatten()
            if not len(columns):
                continue
            carrier = search.carrier(index) if carried else -1
            folds.append(
                Fold(
                    weight=reader.weight,
                    bias=reader.bias or reader.weight.rpartition(".")[0] + ".bias",
                    in_dim=reader.in_dim,
                    columns=tuple(columns.tolist()),
                    constants=tuple(reader.constants[columns].tolist()),
                    carrier=carrier,
                    carrier_value=float(reader.constants[carrier]) if carried else 0.0,
                )
            )
    return folds


def _group_plan(analysis: Analysis, group: ChannelGroup, search: Search) -> GroupPlan:
    zero = torch.stack([_zero_rows(analysis.model, rows.name, rows.dim, rows.index) for rows in group.weights])
    closed, partly = zero.all(dim=0), zero.any(dim=0) & ~zero.all(dim=0)
    needed = search.needed[list(group.roots)]
    reasons: Counter[str] = Counter()
    for channel in ((closed | partly) & needed).nonzero().flatten().tolist():
        reasons[_reason(search, group, channel, bool(partly[channel]))] += 1
    members = dict.fromkeys(rows.module for rows in (*group.filters, *group.norms, *group.others, *group.inputs))
    return GroupPlan(
        name=group.name,
        size=group.size,
        kept=tuple(needed.nonzero().flatten().tolist()),
        members=tuple(members),
        closed=int(closed.sum()),
        partly=int(partly.sum()),
        reasons=dict(reasons),
    )


def _reason(search: Search, group: ChannelGroup, channel: int, partly: bool) -> str:
    root = group.roots[channel]
    if group.pinned:
        return group.pinned
    if root in search.why:
        return search.why[root]
    return "zero in only some of the layers that add to it" if partly else "still carries a value that varies"


def _zero_rows(model: nn.Module, name: str, dim: int, index: Tensor) -> Tensor:
    """(channels,) bool: whether all filters of each channel are exactly zero."""
    weight = model.get_parameter(name).detach().movedim(dim, 0)
    zero = (weight == 0).flatten(1).all(dim=1).cpu()
    return zero[index].all(dim=1)
