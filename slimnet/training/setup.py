"""Everything a run needs, made and checked before any work starts."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slimnet._foreign import no_exit
from slimnet.data import Batches, Dataset, Split
from slimnet.errors import ArgumentError, FileFormatError, ModelError
from slimnet.graph import ChannelGroup, channel_groups, in_eval_mode, residual_branches
from slimnet.models import Trust, check_file, check_model, load_weights
from slimnet.progress import Say, say_from
from slimnet.training.config import TrainConfig
from slimnet.training.distributed import Team
from slimnet.training.freeze import freeze, set_dropout
from slimnet.training.heads import order_head
from slimnet.training.inputs import as_recorded, build_config_model, example_images, load_config_data
from slimnet.training.number_format import Precision, has_bf16
from slimnet.training.target import with_target
from slimnet.training.teacher import Teacher, load_teacher
from slimnet.training.trials import resolve_precision

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

    def statistics_batches(self, split: Split) -> Batches:
        """Batches of a part of the training split, in order; each process sees its part of them."""
        return self._batches(split, self.config.batch_size)

    def whole(self, split: Split) -> Batches:
        """Batches of a split in order, whole on every process."""
        return self._batches(split, self.config.batch_size, whole=True)

    def _batches(self, split: Split, size: int, *, whole: bool = False, **options: Any) -> Batches:
        team = (0, 1) if whole else (self.team.rank, self.team.world_size)
        return Batches(
            split,
            size,
            mean=self.dataset.mean,
            std=self.dataset.std,
            device=self.team.device,
            rank=team[0],
            world_size=team[1],
            workers=self.config.num_workers,
            memory_format=torch.channels_last if self.precision.channels_last else torch.contiguous_format,
            **options,
        )

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
) -> Job:
    """Load the data, build the network, find its channel groups, settle the precision.

    Args:
        config: the settings; the network that they name is trusted.
        team: the processes.
        weights: whether to read the initial weights (not when a checkpoint will replace them).
        say: told, in a line, what takes a while.
        trust_code: which factory the teacher may be built by.
        recorded: what a run that goes on has recorded of its data, which holds.

    Raises:
        SlimnetError: if anything does not fit; nothing has been written then.
    """
    check_model(config.model)
    if weights and config.init:
        check_file(config.init)
    if config.teacher and not Path(config.teacher).exists():
        raise FileFormatError(f"the teacher {config.teacher} does not exist: give a finished run, or a file of weights.")
    dataset = load_config_data(config)
    if recorded is not None:
        dataset = as_recorded(dataset, recorded, who="the run to be resumed", say=say)
    for note in dataset.notes:
        say(note)
    _check_batch(config, dataset, team)
    if config.soft_labels and dataset.train.soft is None:
        raise ArgumentError(f"`soft_labels` needs data where people disagree, such as ferplus; {dataset.name} has labels alone.")
    torch.manual_seed(config.seed)
    model = build_config_model(config, dataset)
    if weights and config.init:
        for note in load_weights(model, config.init, new_head=True):
            say(note)
    freeze(model, config.freeze)
    set_dropout(model, config.dropout)
    example = example_images(dataset)
    _check_output(model, example, dataset, config, loaded=weights and config.init is not None)
    if weights and config.init:
        order_head(model, config.init, dataset.classes, example, whose=dataset.name, say=say)
    groups = channel_groups(model, example, couple=config.method.couple)
    teacher = load_teacher(config, dataset, team.device, say, trust_code=trust_code)
    config, target = with_target(config, model, example, groups, dataset, team, say)
    if config.method.closes_branches:
        groups += residual_branches(model, example)
    job = Job(config, team, dataset, model.to(team.device), groups, example, teacher, target)
    if "auto" in (config.precision, config.channels_last):
        say("looking which precision is faster here")
        batch = next(iter(job.plain_train_batches.epoch(0)))
        job = replace(job, config=resolve_precision(config, job.model, batch, team))
    elif config.precision == "bf16" and team.device.type == "cpu" and not has_bf16():
        say("this processor has no instructions for bfloat16 and imitates them, slowly: --precision auto or fp32 is faster")
    job.precision.model(job.model)
    if teacher is not None:
        job.precision.model(teacher.model)
    return job


def _check_batch(config: TrainConfig, dataset: Dataset, team: Team) -> None:
    size, images = config.batch_size, len(dataset.train)
    if size > images:
        raise ArgumentError(f"`batch_size` must not exceed the {images} training images, got {size}.")
    if size % team.world_size:
        raise ArgumentError(f"`batch_size` must divide among {team.world_size} processes, got {size}.")


def _check_output(model: nn.Module, example: Tensor, dataset: Dataset, config: TrainConfig, *, loaded: bool) -> None:
    shape = tuple(example.shape[1:])
    try:
        with in_eval_mode(model), torch.no_grad(), no_exit(config.model):
            logits = model(example)
    except Exception as error:  # a network may raise anything on images it was not made for
        reason = " ".join(str(error).split())
        raise ModelError(f"{config.model} cannot take images of shape {shape}: {reason}.") from error
    wanted = (len(example), dataset.num_classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"{config.model} must give logits of shape {wanted} for {dataset.name}, it gives {got}.")
    if loaded and not bool(logits.isfinite().all()):
        raise ModelError(
            f"{config.model} answers NaN or infinity with the weights of {config.init}: they are too large to train."
        )
