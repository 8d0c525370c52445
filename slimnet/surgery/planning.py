"""From what can go to a plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from slimnet.graph import Analysis, ChannelGroup, ExampleInputs, Summand, analyse, stream_groups
from slimnet.graph.values import NONE, any_along
from slimnet.surgery.find import Align, Search
from slimnet.surgery.heads import owner
from slimnet.surgery.literals import Graph, find_literals
from slimnet.surgery.operations import Count, Cut, Expansion, Fold, Heads, Move, Shut
from slimnet.surgery.plan import GroupPlan, Plan


def make_plan(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    align: Align = None,
    expand: bool = False,
    shut: bool = True,
    only: Collection[str] | None = None,
    keep: Mapping[str, str] | None = None,
    analysis: Analysis | None = None,
    graph: Graph | None = None,
) -> Plan:
    """Find what can go, without touching the model.

    Args:
        model: the network, masks and parametrisations written into its weights.
        example_inputs: a tensor or tuple of tensors, batch first.
        align: keep closed channels so that each group has a multiple of this many; or name of a group → so many at least.
        expand: compute only live rows of layers that add to a stream, and put constants between them.
        shut: shut down residual branches whose output is constant.
        only: names of the groups that may shrink; None: all.
        keep: name of a group that may not shrink → why.
        analysis: what has been found out about this model already; None: nothing.
        graph: for a plan that cuts the exported program: how that is made. The analysis must be of the program, too.

    Raises:
        GraphError: if the model cannot be analysed.
        UnevenError: if a tensor of the exported program does not stay rectangular.
    """
    analysis = analysis or analyse(model, example_inputs, as_graph=graph is not None)
    shut, expand = shut and graph is None, expand and graph is None
    groups = stream_groups(analysis)
    search = Search(analysis, groups, shut=shut, only=only, keep=keep)
    search.run(align)
    folds = _folds(search)
    expansions = _expansions(analysis, search) if expand else {}
    cuts = [*_cuts(analysis, search), *_cuts_of_new_biases(analysis, search, folds)]
    losses = analysis.labels.losses()
    return Plan(
        groups=tuple(_group_plan(analysis, group, search, losses) for group in groups if group.filters),
        cuts=tuple(_expanded_cuts(analysis, cuts, expansions)),
        folds=tuple(folds),
        moves=tuple(_moves(analysis, search)),
        shuts=tuple(_shut(analysis, search, summand) for summand in search.shut),
        expansions=tuple(expansion for expansion, _ in expansions.values()),
        counts=tuple(_counts(search)),
        heads=() if graph else tuple(_heads(analysis, search)),
        graph=replace(graph, literals=find_literals(analysis, _removed(search))) if graph else None,
        runs=analysis.runs,
    )


def _removed(search: Search) -> Tensor:
    """Representatives of the channels that go."""
    roots = torch.tensor(sorted({root for group in search.groups for root in group.roots}), dtype=torch.int64)
    return roots[~search.needed[roots]]


def _shut(analysis: Analysis, search: Search, summand: Summand) -> Shut:
    kept = list(_kept(analysis, search, summand.labels))
    return Shut(
        module=summand.module,
        values=tuple(summand.constants[kept].tolist()),
        dims=summand.dims,
        full=summand.in_place,
        others=tuple(path for path in summand.shuts if path != summand.module),
    )


Expansions = dict[str, tuple[Expansion, Summand]]


def _expansions(analysis: Analysis, search: Search) -> Expansions:
    """By module: the layers that add to a stream and of which only some of the remaining rows are live."""
    found: Expansions = {}
    for summand in analysis.summands:
        if summand.module in search.gone:
            continue
        kept = list(_kept(analysis, search, summand.labels))
        constants = summand.constants[kept]
        live = constants.isnan().nonzero().flatten().tolist()
        if 0 < len(live) < len(kept):
            values = tuple(constants.nan_to_num(0.0).tolist())
            found[summand.module] = (Expansion(summand.module, tuple(live), values, summand.dims), summand)
    return found


def _expanded_cuts(analysis: Analysis, cuts: list[Cut], expansions: Expansions) -> list[Cut]:
    """Cut the rows of expanded layers down to the live ones."""
    rows = {path: summand.constants.isnan() for _, summand in expansions.values() for path in summand.makers}
    result = {(cut.name, cut.dim): cut for cut in cuts}
    for (name, dim), entry in analysis.entries.items():
        live = rows.get(name.rpartition(".")[0])
        if live is not None and entry.role in ("filter", "bias", "norm"):
            before = result.get((name, dim))
            kept = range(len(entry.labels)) if before is None else before.kept
            result[name, dim] = Cut(name, dim, len(entry.labels), tuple(index for index in kept if live[index]))
    return list(result.values())


def _kept(analysis: Analysis, search: Search, labels: Tensor) -> tuple[int, ...]:
    roots = analysis.roots(labels)
    return tuple((search.needed[roots] | (roots == NONE)).nonzero().flatten().tolist())


def _cuts(analysis: Analysis, search: Search) -> list[Cut]:
    cuts = []
    for entry in analysis.entries.values():
        if entry.name.rpartition(".")[0] in search.gone:
            continue
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


def _counts(search: Search) -> list[Count]:
    """The numbers of modules that count other channels than before."""
    counts = []
    for pieces in search.pieces:
        if pieces.number is not None:
            before = len(pieces.parts[0]) // pieces.weights[0]
            after = search.remaining(pieces)[0] // pieces.weights[0]
            if after != before:
                counts.append(Count(pieces.number.module, pieces.number.name, before, after, pieces.number.index))
    return counts


def _heads(analysis: Analysis, search: Search) -> list[Heads]:
    """The attentions that lose heads, each once."""
    found: dict[str, Heads] = {}
    for attention in analysis.attentions:
        heads = list(dict.fromkeys(analysis.roots(attention.labels).tolist()))
        kept = tuple(index for index, root in enumerate(heads) if root == NONE or bool(search.needed[root]))
        if len(kept) < len(heads):
            path = owner(analysis.model, attention.module, len(heads))
            found.setdefault(path, Heads(path, len(heads), kept))
    return list(found.values())


def _folds(search: Search) -> list[Fold]:
    folds = []
    for index, link in enumerate(search.links):
        if link.repeats:
            continue
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


def _group_plan(analysis: Analysis, group: ChannelGroup, search: Search, losses: Mapping[int, str]) -> GroupPlan:
    makers = group.weights or [rows for rows in group.filters if rows.name not in group.biases] or group.filters
    rows = [_zero_rows(analysis.model, rows.name, rows.dim, rows.index) for rows in makers]
    zero = torch.stack([filters.all(dim=1) for filters in rows])
    closed, partly = zero.all(dim=0), zero.any(dim=0) & ~zero.all(dim=0)
    beside = torch.stack([filters.any(dim=1) for filters in rows]).any(dim=0) & ~closed & ~partly
    needed = search.needed[list(group.roots)]
    reasons: Counter[str] = Counter()
    for channel in ((closed | partly) & needed).nonzero().flatten().tolist():
        reasons[_reason(search, losses, group, channel, bool(partly[channel]))] += 1
    if bool((beside & needed).any()):
        stays = group.pinned or "beside live filters of its convolution group, norm group or head"
        reasons[stays] += int((beside & needed).sum())
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


def _reason(search: Search, losses: Mapping[int, str], group: ChannelGroup, channel: int, partly: bool) -> str:
    root = group.roots[channel]
    if group.pinned:
        return group.pinned
    if root in search.why:
        return search.why[root]
    if root in search.differing:
        return search.differing[root]
    if root in losses:
        return losses[root]
    return "zero in only some of the layers that add to it" if partly else "still carries a value that varies"


def _zero_rows(model: nn.Module, name: str, dim: int, index: Tensor) -> Tensor:
    """(channels, k) bool: which of the k filters of each channel are exactly zero."""
    path, _, attribute = name.rpartition(".")
    weight: Tensor = getattr(model.get_submodule(path), attribute).detach().movedim(dim, 0)
    zero = ~any_along((weight != 0).reshape(len(weight), -1), 1).cpu()
    return zero[index]
