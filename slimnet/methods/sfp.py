"""SFP and ASFP: soft filter pruning, at once (He et al., IJCAI 2018) or asymptotically (He et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slimnet.fields import again, documented
from slimnet.methods.regrow import RegrowMethod
from slimnet.methods.soft import rising
from slimnet.schedules import Schedule
from slimnet.settings import MethodSettings


@documented
@dataclass(frozen=True)
class SFP(RegrowMethod):
    r"""Zero the filters of least norm after every epoch; what training brings back may stay.

    .. math:: W_f \leftarrow 0 \text{ for the } \lfloor F\theta \rfloor \text{ filters of least } \lVert W_f \rVert_2

    Raises:
        ArgumentError: if a hyper-parameter is out of its range.

    Example:
        >>> SFP(0.3).rate_schedule(199)(0)
        0.3

    References:
        He et al., *Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks*, IJCAI 2018.
    """

    name: ClassVar[str] = "sfp"


@documented
@dataclass(frozen=True)
class ASFP(RegrowMethod):
    r"""SFP with a rate that rises from 0: fast at first, then flattening out at θ.

    .. math:: \theta(0) = 0, \quad \theta(E/\tau) = \tfrac34\theta, \quad \theta(E) = \theta

    on the exponential of :func:`slimnet.schedules.asymptotic`; E is the last epoch that selects.

    Raises:
        ArgumentError: if a hyper-parameter is out of its range.

    Example:
        >>> round(ASFP(0.4).rate_schedule(200)(25), 6)
        0.3

    References:
        He et al., *Asymptotic Soft Filter Pruning for Deep Convolutional Neural Networks*, IEEE Transactions
        on Cybernetics 2019.
    """

    name: ClassVar[str] = "asfp"

    tau: float = again(MethodSettings, "tau", 8.0)

    def rate_schedule(self, last_epoch: int) -> Schedule:
        """θ(e): asymptotic."""
        return rising(self.rate, last_epoch, self.tau)
