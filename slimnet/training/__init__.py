"""Training: the loop, the run directory, resume, several processes, evaluation."""

from __future__ import annotations

from slimnet.evaluation import Evaluation, evaluate
from slimnet.training.config import TrainConfig
from slimnet.training.engine import train
from slimnet.training.run import Run
from slimnet.training.signals import Interrupted

__all__ = ["Evaluation", "Interrupted", "Run", "TrainConfig", "evaluate", "train"]
