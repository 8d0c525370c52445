"""What was tried, what each precision is worth, and which are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from slimnet.export.precision._int8 import Method
    from slimnet.measure import LatencyReport


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What a network answers on the split that decides.

    Attributes:
        accuracy: share of images classified right, in [0, 1].
        predictions: (N,) class of each image; −1 where an output is not finite.
    """

    accuracy: float
    predictions: NDArray[np.int64]

    def agreement(self, other: Evaluated) -> float:
        """Share of images that both give the same class."""
        return float((self.predictions == other.predictions).mean())


@dataclass(frozen=True)
class Trial:
    """One way to quantise.

    Attributes:
        method: how ranges of activations were found.
        exclude: names of the layers that stayed in float32.
        accuracy: on the split that decides.
    """

    method: Method
    exclude: tuple[str, ...]
    accuracy: float

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {"method": self.method, "excluded": list(self.exclude), "accuracy": self.accuracy}


@dataclass(frozen=True, eq=False)
class Precision:
    """The network in one precision.

    Attributes:
        name: ``fp32``, ``int8`` or ``fp16``.
        data: the ONNX file.
        accuracy: on the split that decides.
        agreement: share of its images on which the class is that of fp32.
        median_ms: of a run of one image.
        speedup: against fp32, in the same rounds.
        interval: bootstrap 95 % interval of ``speedup``.
        refused: why it is not to be written; None if it is kept.
        made: how, in JSON values; no figure of it depends on the clock.
        trials: what it was chosen from, by accuracy.
        placed: what was timed to leave some of it in float32, in JSON values; None where nothing was.
    """

    name: str
    data: bytes
    accuracy: float
    agreement: float
    median_ms: float
    speedup: float
    interval: tuple[float, float]
    refused: str | None
    made: Mapping[str, Any]
    trials: tuple[Trial, ...] = ()
    placed: Mapping[str, Any] | None = None

    @property
    def kept(self) -> bool:
        """Whether it is to be written."""
        return self.refused is None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON values, with its size in the place of the file."""
        names = ("name", "accuracy", "agreement", "median_ms", "speedup", "refused")
        return {
            **{name: getattr(self, name) for name in names},
            "interval": list(self.interval),
            "bytes": len(self.data),
            **self.made,
            **({"trials": [trial.as_dict() for trial in self.trials]} if self.trials else {}),
            **({"placed": dict(self.placed)} if self.placed is not None else {}),
        }


@dataclass(frozen=True, eq=False)
class Precisions:
    """All precisions that were asked for, fp32 first.

    Attributes:
        found: one each, kept or refused.
        count: images of the split that decided.
        max_drop: most accuracy that one might lose.
        latency: the paired run of all.
    """

    found: tuple[Precision, ...]
    count: int
    max_drop: float
    latency: LatencyReport

    def __getitem__(self, name: str) -> Precision:
        """The precision of that name."""
        return next(one for one in self.found if one.name == name)

    @property
    def kept(self) -> tuple[Precision, ...]:
        """Those to be written, fp32 first."""
        return tuple(one for one in self.found if one.kept)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; no path in them."""
        control = self.latency.control
        return {
            "count": self.count,
            "max_drop": self.max_drop,
            "found": [one.as_dict() for one in self.found],
            "control": {"speedup": control.speedup, "interval": list(control.interval)},
            "rounds": self.latency.rounds,
            "flags": dict(self.latency.flags),
        }
