"""The size of a network, as data. No torch here: a bundle's costs are read without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Attributes:
        flops: multiply-adds for one image; one multiply-add counts as one (fvcore's convention).
        params: number of parameters, shared ones once.
        bytes: bytes of parameters and buffers as they lie in memory.
        unknown: operators that nobody knows how to count → how often they ran. They are *not* in ``flops``:
            where this is not empty, ``flops`` is a lower bound.
        by_module: module name → multiply-adds of the module and all below it ("" is the whole network).
    """

    flops: int
    params: int
    bytes: int
    unknown: dict[str, int] = field(default_factory=dict)
    by_module: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Cost:
        """The inverse of ``as_dict``.

        Raises:
            KeyError: if a number is missing.
        """
        return cls(
            flops=int(value["flops"]),
            params=int(value["params"]),
            bytes=int(value["bytes"]),
            unknown=dict(value.get("unknown", {})),
            by_module=dict(value.get("by_module", {})),
        )
