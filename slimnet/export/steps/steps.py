"""The steps, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slimnet.export.steps.constants import fold_constant_branches
from slimnet.export.steps.convolve import restore_zero_rows, select_by_convolution, shortcuts_by_convolution
from slimnet.export.steps.merge import merge_movements
from slimnet.export.steps.pool import use_global_pool
from slimnet.export.steps.repeats import read_places_once
from slimnet.onnx import graph as ir


@dataclass(frozen=True)
class Step:
    """One way to write a graph better.

    Attributes:
        name: of the step, as reports have it.
        change: changes an ``ir.Model`` in place and tells in how many places.
        is_clean: whether it takes work away wherever it applies: fewer nodes and at most a few multiply-adds more, or the same in
            an operator that more runtimes know. One that is not clean adds work in the hope to save time elsewhere, and must
            prove that.
    """

    name: str
    change: Callable[[Any], int]
    is_clean: bool

    def __call__(self, data: bytes) -> tuple[bytes, int]:
        """The file after the step and the number of places that changed; the same bytes where there are none."""
        model = ir.read(data)
        places = self.change(model)
        return (ir.written(model), places) if places else (data, 0)


STEPS = (
    Step("fold", ir.fold, is_clean=True),
    Step("merge-moves", merge_movements, is_clean=True),
    Step("shortcut-conv", shortcuts_by_convolution, is_clean=True),
    Step("constant-branches", fold_constant_branches, is_clean=True),
    Step("read-once", read_places_once, is_clean=True),
    Step("global-pool", use_global_pool, is_clean=True),
    Step("zero-rows", restore_zero_rows, is_clean=False),
    Step("select-conv", select_by_convolution, is_clean=False),
)
"""Norm and constant folding and no-op removal; movements of channels in fewer nodes; shortcuts that skip places as convolutions;
constant branches at once; linear layers without repeated inputs; means as global pools; then, where measured to pay: expanded
convolutions with their zero filters, and other movements of channels as convolutions."""
