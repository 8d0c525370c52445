"""How far what one network gives is from what another gives, relative to how large that is."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

APART = 20
"""Powers of two between sizes of one kind and of another: next to a masked score of -1e9 a score is one of its own."""
SMALL = 2.0**-10
"""What is smaller, beside larger kinds, is held against this much: it may be what is left of numbers that cancelled."""
ROUNDED = 16
"""Numbers may be sums of so many larger ones: so many times the difference of these is no difference of theirs."""


def kinds(want: Tensor) -> list[tuple[Tensor, float]]:
    """The entries of one kind, by their size, and the largest of them, the largest kind first.

    Between two kinds there is nothing for more than ``APART`` powers of two. Infinities and NaN are of the smallest kind.

    Args:
        want: of any shape, not empty.

    Returns:
        For each kind where it stands, of the shape of ``want``, and the scale that it is held against: 1 where all is 0.
    """
    sizes = want.abs().double().nan_to_num(0.0, 0.0, 0.0)
    powers = sizes.clamp(min=SMALL).frexp().exponent
    there: list[int] = powers.unique().tolist()[::-1]  # type: ignore[no-untyped-call]
    starts = [upper for upper, lower in pairwise(there) if upper - lower > APART]
    found: list[tuple[Tensor, float]] = []
    for start, end in zip([*starts, -1_000_000], [1_000_000, *starts], strict=True):
        of = (powers >= start) & (powers < end)
        largest = float(sizes[of].max())
        found.append((of, max(largest, SMALL) if found else largest or 1.0))
    return found


def distance(want: Tensor, got: Tensor, *, rounding: float = 0.0) -> tuple[float, float]:
    """The largest |Δ| and what it is relative to, in the kind of sizes where that is most.

    Equal infinities do not differ, nor does NaN from NaN. What larger kinds differ by is no difference of smaller ones: these may
    be sums of them.

    Args:
        want, got: floating point numbers of one kind and shape.
        rounding: what |Δ| may be without counting.

    Returns:
        Both finite and the second above 0, or infinity and 1 where an infinity or NaN stands against something else.
    """
    if not want.numel():
        return 0.0, 1.0
    far = (want - got).abs().masked_fill((want == got) | (want.isnan() & got.isnan()), 0.0)
    if not bool(far.isfinite().all()):
        return float("inf"), 1.0
    far = far.masked_fill(far <= rounding, 0.0)
    found, noise = list[tuple[float, float]](), 0.0
    for of, scale in kinds(want):
        own = float(far[of].max())
        found.append((max(own - ROUNDED * noise, 0.0), scale))
        noise = max(noise, own)
    return max(found, key=lambda each: each[0] / each[1])


def relative(want: Tensor, got: Tensor, *, rounding: float = 0.0) -> float:
    """:func:`distance` as one number, for tensors of any numbers."""
    far, scale = distance(_doubles(want), _doubles(got), rounding=rounding)
    return far / scale


def _doubles(value: Tensor) -> Tensor:
    """Any numbers in float64, complex ones as pairs."""
    import torch

    return (torch.view_as_real(value) if value.is_complex() else value).double()
