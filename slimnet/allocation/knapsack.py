"""The widths of least predicted loss within a budget, as a multiple-choice knapsack whose items may come in pairs."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from slimnet._foreign import no_output
from slimnet.allocation.layers import Layer

GAP = 1e-4
"""The solver stops when it is proven to be so near to the best, relatively."""
SECONDS = 60.0
"""It takes what it has found after so long."""

Kept = dict[str, int]


def least_loss(
    layers: Iterable[Layer],
    ladders: Mapping[str, Sequence[int]],
    rise: Callable[[str, int], float],
    cost: Callable[[Layer, Mapping[str, int]], float],
    limit: float,
    around: Mapping[str, int],
) -> Kept | None:
    r"""Choose a width for each group: the least sum of rises whose layers cost at most ``limit``.

    With x = 1 where group g has width w, and y = x x′ for the two groups that a layer reads and makes,

    .. math:: \min \sum_{g,w} r_{gw} x_{gw} \quad\text{s.t.}\quad \sum_w x_{gw} = 1,\;
              \sum_{w'} y_{gw,hw'} = x_{gw},\; \sum_w y_{gw,hw'} = x_{hw'},\; \sum c\,x + \sum c\,y \le B

    is a mixed-integer linear program (HiGHS, through SciPy), exact where each layer touches at most two groups. A layer that
    touches more (concatenations) is taken as linear around given widths, so check the result.

    Args:
        layers: of the network.
        ladders: group name → widths to choose from.
        rise: of the loss, by group and width.
        cost: of a layer at given widths of its groups.
        limit: the budget of all layers together.
        around: widths around which layers with many groups are taken as linear.

    Returns:
        Group name → width; None where nothing is within the budget.
    """
    program = _Program(ladders)
    fixed = 0.0
    pairs: dict[tuple[str, ...], list[Layer]] = defaultdict(list)
    for layer in layers:
        names = sorted({name for parts, _ in layer.sides for name, *_ in parts if name in ladders})
        if len(names) <= 2:
            pairs[tuple(names)].append(layer)
            continue
        base = cost(layer, around)
        fixed += base
        for name in names:
            program.add(name, [cost(layer, {**around, name: width}) - base for width in ladders[name]])
    for touched, found in pairs.items():
        if not touched:
            fixed += sum(cost(layer, {}) for layer in found)
        elif len(touched) == 1:
            (one,) = touched
            program.add(one, [sum(cost(layer, {one: width}) for layer in found) for width in ladders[one]])
        else:
            one, other = touched
            grid = [[sum(cost(layer, {one: w, other: v}) for layer in found) for v in ladders[other]] for w in ladders[one]]
            program.add_pair(one, other, np.array(grid))
    return program.solve([rise(name, width) for name, ladder in ladders.items() for width in ladder], limit - fixed)


class _Program:
    """The variables and constraints as they are found."""

    def __init__(self, ladders: Mapping[str, Sequence[int]]) -> None:
        self.ladders = ladders
        starts = itertools.accumulate((len(ladder) for ladder in ladders.values()), initial=0)
        self.first = dict(zip(ladders, starts, strict=False))
        self.binary = sum(map(len, ladders.values()))
        self.costs = [0.0] * self.binary
        self._entries: list[tuple[int, int, float]] = []
        self._right: list[float] = []
        for name, ladder in ladders.items():
            self._equal([(self.first[name] + rung, 1.0) for rung in range(len(ladder))], 1.0)

    def add(self, name: str, costs: Sequence[float]) -> None:
        """Costs of a group by width."""
        for rung, value in enumerate(costs):
            self.costs[self.first[name] + rung] += value

    def add_pair(self, one: str, other: str, grid: np.ndarray) -> None:
        """Costs of two groups by both widths."""
        start = len(self.costs)
        rows, columns = grid.shape
        self.costs += grid.reshape(-1).tolist()
        for row in range(rows):
            entries = [(start + row * columns + column, 1.0) for column in range(columns)]
            self._equal([*entries, (self.first[one] + row, -1.0)], 0.0)
        for column in range(columns):
            entries = [(start + row * columns + column, 1.0) for row in range(rows)]
            self._equal([*entries, (self.first[other] + column, -1.0)], 0.0)

    def _equal(self, entries: Sequence[tuple[int, float]], right: float) -> None:
        row = len(self._right)
        self._entries += [(row, column, value) for column, value in entries]
        self._right.append(right)

    def solve(self, rises: Sequence[float], limit: float) -> Kept | None:
        """The best assignment, or None."""
        size = len(self.costs)
        rows, columns, values = (np.array(part) for part in zip(*self._entries, strict=True))
        equal = coo_array((values, (rows, columns)), shape=(len(self._right), size)).tocsr()
        unit = abs(limit) or 1.0
        spent = LinearConstraint(np.array(self.costs)[None, :] / unit, -np.inf, limit / unit)
        with no_output():  # HiGHS has lines of its own, now and then
            found = milp(
                np.concatenate([np.array(rises), np.zeros(size - len(rises))]),
                integrality=np.arange(size) < self.binary,
                bounds=Bounds(0.0, 1.0),
                constraints=[LinearConstraint(equal, self._right, self._right), spent],
                options={"mip_rel_gap": GAP, "time_limit": SECONDS},
            )
        if found.x is None:
            return None
        chosen = found.x[: self.binary]
        return {
            name: ladder[int(np.argmax(chosen[self.first[name] : self.first[name] + len(ladder)]))]
            for name, ladder in self.ladders.items()
        }
