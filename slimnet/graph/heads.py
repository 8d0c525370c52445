"""Which rows of the layers in front of an attention make one head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slimnet.graph.findings import Analysis
from slimnet.graph.values import NONE


@dataclass(frozen=True, eq=False)
class Tie:
    """Labels that an attention binds together.

    Attributes:
        labels: (heads, k); those of one row belong to one head.
        silent: whether they are of queries and keys.
    """

    labels: Tensor
    silent: bool


@dataclass(frozen=True, eq=False)
class Blocks:
    """The rows that make one head, by the name of the weight.

    Attributes:
        rows: weight → (rows,) int64; the first row of the head that a row belongs to, or the row itself.
        silent: weight → (rows,) bool; whether a row makes queries or keys and nothing else.
    """

    rows: Mapping[str, Tensor]
    silent: Mapping[str, Tensor]


def find_blocks(analysis: Analysis, ties: Sequence[Tie]) -> Blocks:
    """Unite the labels of each head, and see which rows of which layers that makes one.

    Args:
        analysis: what one walk has found; its labels are united.
        ties: what the attentions that it met bind together.
    """
    layers = {
        entry.name: entry.labels
        for entry in analysis.entries.values()
        if entry.role == "filter" and entry.dim == 0 and bool((entry.labels != NONE).all())
    }
    before = {name: analysis.roots(labels) for name, labels in layers.items()}
    asked, said = (_roots(analysis, ties, silent) for silent in (True, False))
    for tie in ties:
        analysis.labels.unite(tie.labels[:, :1].expand_as(tie.labels), tie.labels)
    rows, silent = {}, {}
    for name, labels in layers.items():
        heads = analysis.roots(labels)
        first = _first_of_each(heads)
        if not torch.equal(first, _first_of_each(before[name])):
            rows[name] = first
            silent[name] = torch.isin(before[name], asked) & ~torch.isin(before[name], said)
    return Blocks(rows, silent)


def _roots(analysis: Analysis, ties: Sequence[Tie], silent: bool) -> Tensor:
    found = [analysis.roots(tie.labels).reshape(-1) for tie in ties if tie.silent == silent]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def _first_of_each(values: Tensor) -> Tensor:
    """For each entry the index of the first one that is equal to it."""
    places: dict[int, int] = {}
    return torch.tensor([places.setdefault(value, index) for index, value in enumerate(values.tolist())])
