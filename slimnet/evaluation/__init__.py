"""How good a network is on a split of a data set."""

from __future__ import annotations

from slimnet.evaluation.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
