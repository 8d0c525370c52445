"""Weights & Biases: offline, into the run's folder, unless ``WANDB_MODE`` says otherwise; ``wandb sync`` sends it later."""

from __future__ import annotations

import os
from collections.abc import Mapping

import wandb

from slimnet.training.loggers.base import Begin, Logger

PROJECT = "slimnet"


class WandbLogger(Logger):
    """A run in the project ``slimnet``, or ``WANDB_PROJECT``; a resumed run has the same id."""

    def __init__(self, begin: Begin) -> None:
        settings = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True)
        mode = os.environ.get("WANDB_MODE", "offline")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(begin.folder),
            mode=mode,  # type: ignore[arg-type]  # the library refuses what it does not know
            id=begin.run_id,
            name=begin.name,
            resume="allow" if mode == "online" else None,
            config=dict(begin.settings),
            settings=settings,
            reinit="create_new",
        )

    def epoch(self, number: int, numbers: Mapping[str, float]) -> None:
        """A step of the run's history."""
        self.run.log(dict(numbers), step=number)

    def result(self, numbers: Mapping[str, float]) -> None:
        """The run's summary, ``result/…``."""
        self.run.summary.update({f"result/{name}": value for name, value in numbers.items()})

    def close(self, *, finished: bool) -> None:
        """Write what is left; a run that was stopped ends with a status of 1."""
        self.run.finish(exit_code=0 if finished else 1)
