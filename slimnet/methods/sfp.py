"""SFP and ASFP: soft filter pruning, at once (He et al., IJCAI 2018) or asymptotically (He et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from slimnet.methods.regrow import RegrowMethod
from slimnet.methods.soft import rising
from slimnet.schedules import Schedule, check_tau


@dataclass(frozen=True)
class SFP(RegrowMethod):
    r"""Zero the filters of least norm after every epoch; what training brings back may stay.

    .. math:: W_f \leftarrow 0 \text{ for the } \lfloor F\theta \rfloor \text{ filters of least } \lVert W_f \rVert_2

    Attributes:
        rate: share θ of filters zeroed after every epoch, in (0, 1).

    Raises:
        ArgumentError: if a hyper-parameter is out of its range.

    Example:
        >>> SFP(0.3).rate_schedule(199)(0)
        0.3

    References:
        He et al., *Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks*, IJCAI 2018.
    """

    name: ClassVar[str] = "sfp"


@dataclass(frozen=True)
class ASFP(RegrowMethod):
    r"""SFP with a rate that rises from 0: fast at first, then flattening out at θ.

    .. math:: \theta(0) = 0, \quad \theta(E/\tau) = \tfrac34\theta, \quad \theta(E) = \theta

    on the exponential of :func:`slimnet.schedules.asymptotic`; E is the last epoch that selects.

    Attributes:
        rate: share θ of filters closed at the end, in (0, 1).
        tau: ¾θ is reached after 1/τ of the epochs; more than 4/3. The 8 is recalled from the paper [M].

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

    tau: float = 8.0

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        super().__post_init__()
        check_tau(self.tau)

    def rate_schedule(self, last_epoch: int) -> Schedule:
        """θ(e): asymptotic."""
        return rising(self.rate, last_epoch, self.tau)
