"""How good a network is on a split of a data set, and how far its probabilities can be believed."""

from __future__ import annotations

from slimnet.evaluation.confidence import Answered, Confidence, calibration_error, fit_temperature
from slimnet.evaluation.evaluate import Evaluation, evaluate

__all__ = ["Answered", "Confidence", "Evaluation", "calibration_error", "evaluate", "fit_temperature"]
