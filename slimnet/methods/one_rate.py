"""Soft filter methods with one rate, which close what they select at once."""

from __future__ import annotations

from dataclasses import dataclass

from slimnet.fields import again, documented
from slimnet.methods.soft import SoftMethod
from slimnet.schedules import Schedule, constant
from slimnet.settings import MethodSettings


@documented
@dataclass(frozen=True)
class OneRateMethod(SoftMethod):
    """θ(e) = θ and ζ(e) = 0, unless a method says otherwise."""

    rate: float = again(MethodSettings, "rate", 0.4)

    @property
    def final_rate(self) -> float:
        """θ."""
        return self.rate

    def rate_schedule(self, last_epoch: int) -> Schedule:
        """θ(e) = θ."""
        return constant(self.rate)

    def scale_schedule(self, last_epoch: int) -> Schedule:
        """ζ(e) = 0."""
        return constant(0.0)
