"""The passes over data that an epoch makes beside its steps: class statistics and validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from slimnet.criteria import ClassStatistics, collect_class_statistics
from slimnet.data import Batches, Split, stratified_indices
from slimnet.errors import TrainingError
from slimnet.evaluation.evaluate import Evaluation, summarise, tally
from slimnet.graph import in_eval_mode
from slimnet.progress import each
from slimnet.training.setup import Job

LEAST_PER_CLASS = 16


def wrap(job: Job) -> Callable[[Tensor], Tensor]:
    """The network as training calls it: joined with other processes, compiled where that was asked for."""
    module: nn.Module = job.team.wrap(job.model, sync_buffers=not job.config.sync_bn)
    return torch.compile(module) if job.config.compile else module


def validate(job: Job, model: nn.Module, epoch: int) -> Evaluation:
    """Evaluate ``model`` on the validation split, over all processes, in the precision of training.

    Raises:
        TrainingError: if the loss is not a number.
    """

    def predict(images: Tensor) -> Tensor:
        with job.precision.autocast():
            logits: Tensor = model(images)
        return logits

    with in_eval_mode(model):
        confusion, loss = tally(predict, each(job.val_batches.epoch(0), "validating", len(job.val_batches)))
    result = summarise(job.team.sum(confusion), job.team.sum(loss))
    if not math.isfinite(result.loss):
        raise TrainingError(
            f"the validation loss is not a number after epoch {epoch}: lower `lr` ({job.config.lr}); the last checkpoint stands."
        )
    return result


class Statistics:
    """Class statistics of feature maps, over a fixed stratified subset of the training split.

    The subset is the method's ``statistics_share`` of the split, and at least 16 images a class; a share of 1
    is all of it.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._batches: Batches | None = None

    def __call__(self, modules: Sequence[str]) -> ClassStatistics:
        """The statistics behind the named modules, summed over all processes."""
        job = self._job
        if self._batches is None:
            self._batches = job.statistics_batches(self._subset())
        batches = each(self._batches.epoch(0), "collecting class statistics", len(self._batches))
        with job.precision.autocast():
            return collect_class_statistics(job.model, modules, batches, job.dataset.num_classes, reduce=self._sum)

    def _sum(self, tensor: Tensor) -> None:
        self._job.team.sum(tensor)

    def _subset(self) -> Split:
        split = self._job.dataset.train
        least = LEAST_PER_CLASS * self._job.dataset.num_classes
        count = min(len(split), max(round(len(split) * self._job.config.method.statistics_share), least))
        if count == len(split):
            return split
        generator = Generator().manual_seed(self._job.config.seed)
        return split.subset(stratified_indices(split.labels, count, generator))
