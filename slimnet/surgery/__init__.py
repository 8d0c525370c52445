"""Remove closed channels exactly: find, plan, cut, verify."""

from slimnet.surgery.cross_check import PEER_SECONDS, Difference, NoAnswerError, cross_check
from slimnet.surgery.optimizer import move_optimizer
from slimnet.surgery.plan import Plan
from slimnet.surgery.planning import make_plan
from slimnet.surgery.slim import SlimReport, SlimResult, runnable_plan, slim
from slimnet.surgery.uncut import uncut
from slimnet.surgery.verify import Verification, verify

__all__ = [
    "PEER_SECONDS",
    "Difference",
    "NoAnswerError",
    "Plan",
    "SlimReport",
    "SlimResult",
    "Verification",
    "cross_check",
    "make_plan",
    "move_optimizer",
    "runnable_plan",
    "slim",
    "uncut",
    "verify",
]
