"""Many paths in little memory: three arrays instead of an object each, which processes that decode can share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Paths:
    """N paths below one folder.

    A worker process shares the arrays with the one that made it. A list of 100,000 objects it would copy page by page, since
    looking at an object changes its count of references.

    Attributes:
        root: the folder; empty for paths that are whole by themselves.
        text: the bytes of all names, one after the other.
        ends: (M,) int64, where each name ends in ``text``.
        rows: (N,) int64, which of the M names these are.
    """

    root: str
    text: NDArray[np.uint8]
    ends: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, root: str | Path, names: Iterable[str]) -> Paths:
        """Of names relative to ``root``."""
        encoded = [os.fsencode(name) for name in names]
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        return cls(str(root), np.frombuffer(b"".join(encoded), np.uint8), ends, np.arange(len(encoded)))

    @classmethod
    def whole(cls, paths: Sequence[Path | str]) -> Paths:
        """Of paths anywhere."""
        return cls.of("", map(str, paths))

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, place: int) -> str:
        """The name relative to the folder, with ``/`` between its parts."""
        row = self.rows[place]
        return os.fsdecode(self.text[self.ends[row - 1] if row else 0 : self.ends[row]].tobytes())

    def names(self) -> list[str]:
        """All of them."""
        return [self.name(place) for place in range(len(self))]

    def __getitem__(self, place: int) -> Path:
        """The whole path."""
        return Path(self.root, self.name(place))

    def subset(self, indices: Tensor) -> Paths:
        """Those at ``indices`` (n,) int64."""
        return replace(self, rows=self.rows[indices.numpy()])
