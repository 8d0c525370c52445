"""Steps that say the same network in a better graph. Each is tried by the parity gate, and may be timed, before it is kept."""

from slimnet.export.steps.driver import Pace, check_mode, optimise_graph
from slimnet.export.steps.report import StepReport, StepResult
from slimnet.export.steps.steps import STEPS, Step
from slimnet.names import MODES, Mode

__all__ = ["MODES", "STEPS", "Mode", "Pace", "Step", "StepReport", "StepResult", "check_mode", "optimise_graph"]
