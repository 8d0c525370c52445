"""What a run has from its first step to its last: settings, data, network, batches; made and checked before any work starts."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from slimnet.criteria import ClassStatistics, collect_class_statistics
from slimnet.data import Batches, Dataset, Split, stratified_indices
from slimnet.data.transform import Transform
from slimnet.errors import ArgumentError, DataError, FileFormatError
from slimnet.graph import ChannelGroup, channel_groups, residual_branches
from slimnet.models import Trust, check_file, check_model
from slimnet.progress import Say, each, say_from
from slimnet.training.config import TrainConfig
from slimnet.training.data import as_recorded, example_images, load_config_data
from slimnet.training.known import with_known_size, with_known_statistics
from slimnet.training.network import initial_network
from slimnet.training.number_format import Precision, has_bf16, resolve_precision
from slimnet.training.slim_start import is_slim_folder
from slimnet.training.target import with_target
from slimnet.training.teacher import Teacher, load_teacher
from slimnet.training.team import Team
from slimnet.training.unused import unused_settings

LEAST_PER_CLASS = 16
"""Images a class, at least, that class statistics are taken over."""

_say = say_from(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """What does not change during a run, apart from the weights of ``model``."""

    config: TrainConfig
    team: Team
    dataset: Dataset
    model: nn.Module
    groups: tuple[ChannelGroup, ...]
    example: Tensor
    teacher: Teacher | None = None
    target: dict[str, Any] | None = None
    transform: Transform | None = None

    @property
    def precision(self) -> Precision:
        """How forward passes compute in training."""
        return Precision.of(self.config, self.team.device)

    @cached_property
    def train_batches(self) -> Batches:
        """Shuffled, augmented batches of the training split; each process sees its part."""
        size, least = self.config.batch_size, 2 * self.team.world_size
        last = len(self.dataset.train) % size
        return self._batches(
            self.dataset.train,
            size,
            augment=self.dataset.augment,
            transform=self.transform,
            shuffle=True,
            seed=self.config.seed,
            drop_last=0 < last < least,  # a norm cannot learn from a single image
            soft=self.config.soft_labels,
        )

    @cached_property
    def plain_train_batches(self) -> Batches:
        """Shuffled batches of the training split without augmentation, whole on every process."""
        size = min(self.config.batch_size, len(self.dataset.train))
        return self._batches(self.dataset.train, size, shuffle=True, seed=self.config.seed, whole=True)

    @cached_property
    def val_batches(self) -> Batches:
        """Batches of the validation split; each process sees its part."""
        return self._batches(self.dataset.val, self.config.batch_size)

    @cached_property
    def statistics_batches(self) -> Batches:
        """Batches of a fixed stratified part of the training split, in order; each process sees its part of them.

        They hold the method's ``statistics_share`` of the split, and at least 16 images a class; a share of 1 is all of it.
        """
        split, classes = self.dataset.train, self.dataset.num_classes
        count = min(len(split), max(round(len(split) * self.config.method.statistics_share), LEAST_PER_CLASS * classes))
        if count < len(split):
            split = split.subset(stratified_indices(split.labels, count, Generator().manual_seed(self.config.seed)))
        return self._batches(split, self.config.batch_size)

    def whole(self, split: Split) -> Batches:
        """Batches of a split in order, whole on every process."""
        return self._batches(split, self.config.batch_size, whole=True)

    def _batches(self, split: Split, size: int, *, whole: bool = False, **options: Any) -> Batches:
        """Batches as this run takes them: normalised, on its device, in its memory format; this process's part, or whole."""
        rank, world_size = (0, 1) if whole else (self.team.rank, self.team.world_size)
        return Batches(
            split,
            size,
            mean=self.dataset.mean,
            std=self.dataset.std,
            device=self.team.device,
            rank=rank,
            world_size=world_size,
            workers=self.config.num_workers,
            memory_format=torch.channels_last if self.precision.channels_last else torch.contiguous_format,
            **options,
        )

    def joined_model(self) -> Callable[[Tensor], Tensor]:
        """The network as training calls it: joined with other processes, compiled where that was asked for."""
        module: nn.Module = self.team.wrap(self.model, sync_buffers=not self.config.sync_bn)
        return torch.compile(module) if self.config.compile else module

    def class_statistics(self, modules: Sequence[str]) -> ClassStatistics:
        """The class statistics of feature maps behind the named modules, summed over all processes."""
        batches, classes = self.statistics_batches, self.dataset.num_classes
        shown = each(batches.epoch(0), "collecting class statistics", len(batches))
        with self.precision.autocast():
            return collect_class_statistics(self.model, modules, shown, classes, reduce=self.team.sum)

    def record(self) -> dict[str, Any]:
        """What ``config.json`` holds."""
        return {
            "format": "slimnet-run/1",
            "slimnet": version("slimnet"),
            "train": self.config.as_dict(),
            "data": self.dataset.as_dict(),
            "environment": environment(self.team),
            **({"target": self.target} if self.target else {}),
        }


def environment(team: Team) -> dict[str, Any]:
    """The versions and the machine that a run's figures belong to."""
    device = team.device
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "world_size": team.world_size,
    }


def prepare(
    config: TrainConfig,
    team: Team,
    *,
    weights: bool = True,
    say: Say = _say,
    trust_code: Trust = False,
    recorded: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    transform: Transform | None = None,
) -> Job:
    """Load the data, build the network, find its channel groups, settle the precision.

    Args:
        config: the settings; the network that they name is trusted.
        team: the processes.
        weights: whether to read the initial weights (not when a checkpoint will replace them).
        say: told, in a line, what takes a while.
        trust_code: which factory the teacher may be built by.
        recorded: what a run that goes on has recorded of its data, which holds.
        folder: of the run that goes on.
        transform: in place of the random changes of training images.

    Raises:
        SlimnetError: if anything does not fit; nothing has been written then.
    """
    if recorded is None:
        config = with_known_size(config, say)
    dataset = _load_data(config, team, weights=weights, recorded=recorded, folder=folder, say=say)
    example, init = example_images(dataset), config.init if weights else None
    model = initial_network(config, dataset, example, init=init, say=say)
    groups = channel_groups(model, example, couple=config.method.couple)
    teacher = load_teacher(config, dataset, team.device, say, trust_code=trust_code)
    config, target = with_target(config, model, example, groups, dataset, team, say)
    if config.method.closes_branches:
        groups += residual_branches(model, example)
    return _with_precision(Job(config, team, dataset, model.to(team.device), groups, example, teacher, target, transform), say)


def _load_data(
    config: TrainConfig, team: Team, *, weights: bool, recorded: Mapping[str, Any] | None, folder: Path | None, say: Say
) -> Dataset:
    """The data set, once every file is there that the settings name, and as the run that goes on has recorded it."""
    check_model(config.model)
    if weights and config.init and not is_slim_folder(config.init):
        check_file(config.init)
    if config.teacher_views != "one" and config.teacher is None:  # not in TrainConfig: a recipe leaves the teacher to its user
        raise ArgumentError("`teacher_views` is for a teacher: give `teacher`, or leave it out.")
    if config.teacher and not Path(config.teacher).exists():
        raise FileFormatError(f"the teacher {config.teacher} does not exist: give a finished run, or a file of weights.")
    dataset = load_config_data(config, folder=folder)
    dataset = (
        with_known_statistics(config, dataset, say)
        if recorded is None
        else as_recorded(dataset, recorded, who="the run to be resumed", say=say)
    )
    _check_sizes(dataset, recorded or {})
    for note in (*dataset.notes, *(unused_settings(config, dataset) if recorded is None else ())):
        say(note)
    _check_data(config, dataset, team)
    return dataset


def _check_sizes(dataset: Dataset, recorded: Mapping[str, Any]) -> None:
    """Refuse to go on with other images than a run has seen so far."""
    for split in ("train", "val", "test"):
        now = len(getattr(dataset, split))
        if recorded.get(split, now) != now:
            raise DataError(
                f"the data has changed since the run began: {recorded[split]} images of {split}, now {now}. "
                "Put it back as it was, or begin a new run with this one as `init`."
            )


def _check_data(config: TrainConfig, dataset: Dataset, team: Team) -> None:
    size, images = config.batch_size, len(dataset.train)
    if size > images:
        raise ArgumentError(f"`batch_size` must not exceed the {images} training images, got {size}.")
    if size % team.world_size:
        raise ArgumentError(f"`batch_size` must divide among {team.world_size} processes, got {size}.")
    if config.soft_labels and dataset.train.soft is None:
        more = " (--ferplus-votes adds FER+'s votes)" if dataset.name == "fer2013" else ""
        raise ArgumentError(
            f"`soft_labels` needs data where people disagree, such as ferplus; {dataset.name} has labels alone{more}."
        )


def _with_precision(job: Job, say: Say) -> Job:
    """The job with a definite precision; its networks lie in memory accordingly, in place."""
    config = job.config
    if "auto" in (config.precision, config.channels_last):
        what = "precision" if config.precision == "auto" else "memory format"
        say(f"looking which {what} is faster here")
        batch = next(iter(job.plain_train_batches.epoch(0)))
        job = replace(job, config=resolve_precision(config, job.model, batch, job.team))
    elif config.precision == "bf16" and job.team.device.type == "cpu" and not has_bf16():
        say("this processor has no instructions for bfloat16 and imitates them, slowly: --precision auto or fp32 is faster")
    for network in (job.model, *([job.teacher.model] if job.teacher else [])):
        job.precision.model(network)
    return job
