"""SRFP and ASRFP: softer filter pruning: filters shrink instead of being zeroed (2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slimnet.criteria import exact_count
from slimnet.fields import again, documented
from slimnet.methods.regrow import RegrowMethod
from slimnet.methods.soft import rising
from slimnet.schedules import Schedule, fading
from slimnet.settings import MethodSettings


@documented
@dataclass(frozen=True)
class SRFP(RegrowMethod):
    r"""Shrink the filters of least norm after every epoch, by a factor that falls to 0.

    .. math::
        W_f \leftarrow \alpha(e) W_f, \quad \alpha(e) = a\,\bigl(1 - r(e)\bigr), \quad
        r(0) = 0,\ r(E/\tau) = \tfrac34,\ r(E) = 1

    The factors multiply from epoch to epoch; gradients are not masked, so a filter may grow back. The form of α
    is ours: the paper asks for a decreasing one [M].

    Raises:
        ArgumentError: if a hyper-parameter is out of its range.

    Example:
        >>> scale = SRFP(0.4).scale_schedule(200)
        >>> [round(scale(epoch), 6) for epoch in (0, 25, 200)]
        [1.0, 0.25, 0.0]

    References:
        Cai et al., *Softer Pruning, Incremental Regularization*, ICPR 2020.
    """

    name: ClassVar[str] = "srfp"

    tau: float = again(MethodSettings, "tau", 8.0)
    attenuation: float = again(MethodSettings, "attenuation", 1.0)

    def scale_schedule(self, last_epoch: int) -> Schedule:
        """α(e): a at the start, 0 at the end."""
        return fading(rising(self.rate, last_epoch, self.tau), self.rate, self.attenuation)


@documented
@dataclass(frozen=True)
class ASRFP(SRFP):
    r"""SRFP with ASFP's rising rate: few filters shrink at first, and all that do fade together.

    .. math:: \theta(e) \nearrow \theta, \quad \alpha(e) = a\,(1 - \theta(e)/\theta)

    Raises:
        ArgumentError: if a hyper-parameter is out of its range.

    Example:
        >>> round(ASRFP(0.4).rate_schedule(200)(25), 6)
        0.3

    References:
        Cai et al., *Softer Pruning, Incremental Regularization*, ICPR 2020.
    """

    name: ClassVar[str] = "asrfp"

    def rate_schedule(self, last_epoch: int) -> Schedule:
        """θ(e): asymptotic."""
        return rising(self.rate, last_epoch, self.tau)

    def count(self, size: int, rate: float) -> int:
        """Fθ(e) to the nearest, and ⌊Fθ⌋ at the end: so the last filter fades like the others."""
        return min(exact_count(size, rate + 0.5 / size), exact_count(size, self.rate))
