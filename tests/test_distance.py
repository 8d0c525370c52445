"""How far outputs are apart: relative to the largest, and to the largest of their kind where sizes lie far apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from slimnet._distance import distance, kinds, relative
from slimnet.export.parity import compare

INFINITE = float("inf")


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("want", "got", "error"),
    [
        (doubles(1, 2, -4), doubles(1, 2.5, -4), 0.125),
        (doubles(1, 2, -1e9), doubles(1.5, 2, -1e9), 0.25),
        (doubles(0, 0, -1e9), doubles(0.5, 0, -1e9), 512),
        (doubles(1, 2, -1e9), doubles(1, 2, -1.5e9), 0.5),
        (doubles(1, 2, -1e9, 4e20), doubles(1, 2, -1.5e9, 4e20), 0.5),
        (doubles(1, 2, torch.finfo(torch.float64).min), doubles(1, 3, torch.finfo(torch.float64).min), 0.5),
        (doubles(0, 0, 1e9), doubles(1e-17, 0, 1e9), 0),  # next to nothing: what is left of numbers that cancel
        (doubles(1e-17, 1), doubles(2e-17, 1), 0),
        (doubles(2e-6, -5, 4.5), doubles(2.06e-6, -5, 4.5), 0.06e-6 / 5),
        (doubles(1e-5, 1e11), doubles(3e-5, 1e11 + 1e-5), 1e-16),  # what is left of numbers that differ by as much
        (doubles(1, 2 - 1e9), doubles(1 + 1e-7, 2 - 1e9 + 1.2e-7), 1.2e-16),
        (doubles(1e-30, 2e-30), doubles(1e-30, 3e-30), 0.5),
        (doubles(0, 0), doubles(0.5, 0), 0.5),
        (doubles(1, INFINITE), doubles(1, INFINITE), 0),
        (doubles(1, INFINITE), doubles(1, 7), INFINITE),
        (doubles(1, 7), doubles(1, -INFINITE), INFINITE),
        (doubles(1, 2), doubles(1, float("nan")), INFINITE),
        (doubles(1, float("nan")), doubles(1, float("nan")), 0),
        (doubles(), doubles(), 0),
        (torch.tensor([3, 2**40]), torch.tensor([4, 2**40]), 1 / 3),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 1j]), 0.5),
        (torch.tensor([True, False]), torch.tensor([True, True]), 1),
    ],
)  # fmt: skip
def test_how_far_outputs_are_apart(want: Tensor, got: Tensor, error: float) -> None:
    assert relative(want, got) == pytest.approx(error, rel=1e-6, abs=1e-13)


def test_rounding_does_not_count() -> None:
    assert relative(doubles(1, 1e-6), doubles(1, 3e-6), rounding=1e-5) == 0
    assert relative(doubles(1, 1), doubles(1, 1.5), rounding=1e-5) == 0.5


@pytest.mark.parametrize("size", [10, 1000])
@pytest.mark.parametrize("large", [1.0, 1e3, 1e11, 1e30])
def test_small_outputs_are_not_held_against_themselves_by_rounding(size: int, large: float) -> None:
    """Residues of large numbers, and sums with them."""
    torch.manual_seed(0)
    for _ in range(50):
        want, other = (large * torch.randn(size, dtype=torch.float64) for _ in range(2))
        got = want * (1 + 1e-16 * torch.randn(size))
        mean, same = want.mean(), got.flip(0).mean()
        expected, found = (
            torch.cat([want, want - mean, (want + other) - other]),
            torch.cat([got, got - same, got + (other - other)]),
        )
        assert relative(expected, found) <= 1e-12


def test_kinds_of_sizes() -> None:
    (large, scale), (small, least) = kinds(doubles(1, -3, -1e9, 2e9, 0, INFINITE))
    assert large.tolist() == [False, False, True, True, False, False]
    assert (scale, least) == (2e9, 3)
    assert torch.equal(large, ~small)
    ((everything, only),) = kinds(doubles(0, 1e-300))
    assert everything.all() and only == 1e-300
    assert [scale for _, scale in kinds(doubles(1e-7, 1e5))] == [1e5, 2.0**-10]
    assert distance(doubles(1, 2), doubles(1, 2)) == (0, 2)


def test_the_gate_of_an_export_sees_what_stands_beside_masked_scores() -> None:
    want = doubles(1, 2, -1e9, 3, 0, -1e9).reshape(2, 3)
    got = doubles(1.9, 2, -1e9, 3, 0.9, -1e9).reshape(2, 3)
    inputs = (torch.zeros(2, 1),)
    (check,) = compare(lambda _: want, lambda _: got, [("given", inputs)], pair="a vs b", tolerance=1e-9)
    assert not check.passed
    assert (check.max_abs, check.scale, check.undecided) == (pytest.approx(0.9), 3, 0)
    (check,) = compare(lambda _: want, lambda _: got.flip(1), [("given", inputs)], pair="a vs b", tolerance=1e-9)
    assert check.agreement < 1
