r"""How far the probabilities of a network can be believed.

A network says of each image how sure it is: the probability of its likeliest class. It is *calibrated* where, of all images
that it is 80 % sure of, it has 80 % right. One number, the temperature T, corrects most of what is amiss: the probabilities are
those of the logits divided by T. No answer changes, for T is the same for every class.

.. math:: p = \operatorname{softmax}(z / T), \qquad \mathrm{ECE} = \sum_{m=1}^{15} \frac{|B_m|}{n}
   \bigl|\operatorname{acc}(B_m) - \operatorname{conf}(B_m)\bigr|

with the images in 15 bins :math:`B_m` of equal width by the probability of their likeliest class.

References:
    Guo, Pleiss, Sun & Weinberger, *On Calibration of Modern Neural Networks*, ICML 2017 (temperature, calibration error).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from slimnet.errors import ArgumentError, DataError

BINS = 15
"""Bins of equal width for the calibration error, as in the paper."""

THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Least probabilities of an answer, for which it is told how many images get one, and how many of these are right."""

BOUNDS = (0.1, 10.0)
"""Temperatures that are looked at. Where one at an end is as good as the best one, the images do not tell it."""
WORTH = 1e-6  # nats: less is no difference

DIGITS = 4  # of a temperature: what is left out changes no probability by 1e-4


@dataclass(frozen=True)
class Answered:
    """What becomes of a network's answers where the unsure ones are kept back.

    Attributes:
        threshold: the least probability of an answer, in [0, 1].
        share: of the images that get an answer, in [0, 1].
        accuracy: share of the answers that are right; None where there is none.
    """

    threshold: float
    share: float
    accuracy: float | None

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"threshold": self.threshold, "share": self.share, "accuracy": self.accuracy}


@dataclass
class Confidence:
    """How sure a network is of the images of a split, and whether rightly: filled batch by batch.

    Args:
        temperature: logits are divided by it.

    Raises:
        ArgumentError: if it is not a positive finite number.
    """

    temperature: float = 1.0
    _tops: list[Tensor] = field(default_factory=list, init=False, repr=False)
    _rights: list[Tensor] = field(default_factory=list, init=False, repr=False)
    _loss: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ArgumentError(f"`temperature` must be a positive number, got {self.temperature}.")

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Take a batch: logits (N, classes), as the network gives them, and labels (N,)."""
        cooled = logits.double() / self.temperature
        top, found = cooled.softmax(1).max(1)
        self._loss += float(F.cross_entropy(cooled, labels, reduction="sum"))
        self._tops.append(top.cpu())
        self._rights.append((found == labels).cpu())

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(map(len, self._tops))

    @property
    def nll(self) -> float:
        """Mean negative logarithm of the true class's probability, in nats."""
        return self._loss / self._known()

    @property
    def ece(self) -> float:
        """Expected calibration error, in [0, 1]."""
        self._known()
        return calibration_error(torch.cat(self._tops), torch.cat(self._rights))

    def answered(self, thresholds: Sequence[float] = THRESHOLDS) -> tuple[Answered, ...]:
        """For each threshold, what is answered."""
        count, top, right = self._known(), torch.cat(self._tops), torch.cat(self._rights)
        rows = []
        for threshold in thresholds:
            kept = right[top >= threshold]
            rows.append(Answered(threshold, len(kept) / count, int(kept.sum()) / len(kept) if len(kept) else None))
        return tuple(rows)

    def _known(self) -> int:
        if not self.count:
            raise DataError("there are no images to evaluate on.")
        return self.count


def calibration_error(top: Tensor, right: Tensor, *, bins: int = BINS) -> float:
    r"""Expected calibration error: the mean distance of confidence and accuracy, over bins of equal width, by their images.

    Args:
        top: (N,) probability of the likeliest class of each image, in [0, 1].
        right: (N,) bool, whether that class is the true one.
        bins: number of bins; bin m holds probabilities in ((m − 1) / bins, m / bins].

    Returns:
        A number in [0, 1].

    Raises:
        DataError: if there are no images.

    Example:
        >>> calibration_error(torch.tensor([0.9, 0.9, 0.6, 0.6]), torch.tensor([True, False, True, True]))  # doctest: +ELLIPSIS
        0.39999...
    """
    if not len(top):
        raise DataError("there are no images to evaluate on.")
    place = (top.double() * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, right.double() - top.double())
    return float(gaps.abs().sum()) / len(top)


def fit_temperature(logits: Tensor, labels: Tensor) -> float | None:
    """The temperature that makes the true classes likeliest: the least mean negative log-likelihood (Guo et al., eq. 9).

    Args:
        logits: (N, classes) of images that the network was not trained on: of the validation split.
        labels: (N,) int64.

    Returns:
        A number within `BOUNDS`, to four decimals; None where these images do not tell it, as where all are classified
        right and any lower temperature is better.

    Raises:
        DataError: if there are no images, or a logit is NaN or infinite.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0]]).repeat(4, 1)  # 98 % sure, and right three times of four: log 3 is enough
        >>> fit_temperature(logits, torch.tensor([0, 0, 0, 1]))
        3.641
    """
    from scipy.optimize import minimize_scalar

    if not len(logits):
        raise DataError("there are no images to fit a temperature on.")
    if not bool(logits.isfinite().all()):
        raise DataError("the network gives NaN or infinite logits: no temperature can be fitted.")
    wide = logits.double()

    def loss(logarithm: float) -> float:
        return float(F.cross_entropy(wide / math.exp(logarithm), labels))

    low, high = map(math.log, BOUNDS)
    best = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-8}).x)
    told = min(loss(low), loss(high)) - loss(best) > WORTH
    return round(math.exp(best), DIGITS) if told else None
