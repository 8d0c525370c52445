"""Remove closed channels exactly: find, plan, cut, verify."""

from slimnet.surgery.plan import Plan
from slimnet.surgery.planning import make_plan
from slimnet.surgery.slim import SlimReport, SlimResult, runnable_plan, slim
from slimnet.surgery.verify import Verification, verify

__all__ = ["Plan", "SlimReport", "SlimResult", "Verification", "make_plan", "runnable_plan", "slim", "verify"]
