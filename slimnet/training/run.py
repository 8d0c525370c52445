"""A finished run, read back from its directory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slimnet._json import check
from slimnet.data import Dataset
from slimnet.errors import ArgumentError, FileFormatError, ModelError, whole_text
from slimnet.files import read_json, read_tensors
from slimnet.files.untrusted import holds, member, refuse_links
from slimnet.graph import ChannelGroup, channel_groups, prunable
from slimnet.known import check_run
from slimnet.methods import Method
from slimnet.models import Trust, build_model, check_trusted
from slimnet.progress import Say, say_from
from slimnet.training.config import TrainConfig
from slimnet.training.data import as_recorded, load_data_of
from slimnet.training.metrics import METRICS, read_metrics

CONFIG, MODEL = "config.json", "model.safetensors"

_say = say_from(__name__)
RESULT = {"best_epoch", "val_accuracy", "test_accuracy"}


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        path: its directory.
        config: its settings; a precision of ``"auto"`` has become what was chosen.
        data: what the network was trained on: name, classes, image_shape (C, H, W), mean, std, sizes of the
            splits.
        environment: versions and machine.
        metrics: one dictionary an epoch.
        result: the last line: best epoch (from 0), accuracy and loss on the validation and the test split.
        target: what the widths were chosen for, and what was predicted of them; None without a target.
        trust_code: which factory of the user's own may be run to build the network (see `slimnet.models.trust`).
    """

    path: Path
    config: TrainConfig
    data: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    result: dict[str, Any]
    target: dict[str, Any] | None = None
    trust_code: Trust = False

    @classmethod
    def open(cls, path: str | Path, *, trust_code: Trust = False) -> Run:
        """Open a run directory. No code is run.

        Args:
            path: the directory.
            trust_code: True, or ``"package.module:function"``: let a factory of the user's own that ``config.json`` names build
                the network, any or this one alone. Without it, only networks of slimnet, torchvision and timm are built.

        Raises:
            FileFormatError: if it is no run, or the run did not finish.
        """
        folder = Path(path)
        record = read_record(folder)
        lines = read_metrics(folder)
        if not is_finished(folder) or not lines or not lines[-1].get("final"):
            raise FileFormatError(f"the training in {folder} did not finish: resume it with --resume.")
        config = read_config(folder, record)
        if len(lines) - 1 != config.epochs or not lines[-1].keys() >= RESULT:
            raise FileFormatError(f"{folder / METRICS} lacks lines of the {config.epochs} epochs or the result: it was changed.")
        found = (config, record["data"], record["environment"], lines[:-1], lines[-1], record.get("target"))
        return cls(folder, *found, trust_code=trust_code)

    @property
    def method(self) -> Method:
        """What was pruned, and how."""
        return self.config.method

    @property
    def best_epoch(self) -> int:
        """The epoch, from 0, whose weights are the result."""
        return int(self.result["best_epoch"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the network's outputs."""
        return tuple(self.data["classes"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that the network takes."""
        channels, height, width = self.data["image_shape"]
        return channels, height, width

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each colour plane, taken off images in [0, 1]."""
        return tuple(self.data["mean"])

    @property
    def std(self) -> tuple[float, ...]:
        """Deviation by which each colour plane is divided."""
        return tuple(self.data["std"])

    def build_model(self) -> nn.Module:
        """The network with fresh weights, on the CPU.

        Raises:
            ModelError: if a factory is to build it that is not trusted.
        """
        name, arguments = self.config.model, self.config.model_args
        check_trusted(name, self.path / CONFIG, self.trust_code, arguments)
        return build_model(name, model_args=arguments, num_classes=len(self.classes), in_channels=self.image_shape[0])

    def load_model(self) -> nn.Module:
        """The network with the weights of the result (closed filters exactly zero), in eval mode, on the CPU.

        Raises:
            FileFormatError: if ``model.safetensors`` is corrupt or does not fit.
            ModelError: if a factory is to build it that is not trusted.
        """
        path = member(self.path, MODEL)
        model, tensors = self.build_model(), read_tensors(path)
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            reason = whole_text(error)
            raise FileFormatError(f"{path} does not fit {self.config.model}: {reason}") from None
        return model.eval()

    def dataset(self, *, data_dir: Path | str | None = None, soft: bool = True, say: Say = _say) -> Dataset:
        """The data set of the run: the same splits, mean and deviation, and classes in the order of the network's outputs.

        Args:
            data_dir: where it lies now; default: where it lay in training.
            soft: whether soft labels are wanted: without them the votes of FER+ need not lie beside FER2013.
            say: told where its classes are in another order now.

        Raises:
            DataError: if it is missing or malformed, or has other classes now.
        """
        found = load_data_of(self.config.as_dict(), data_dir=data_dir, folder=self.path, soft=soft)
        return as_recorded(found, self.data, who=str(self.path), say=say)

    def example_input(self, count: int = 2) -> Tensor:
        """Random images (count, C, H, W) of the right shape; the same every time."""
        return torch.randn(count, *self.image_shape, generator=torch.Generator().manual_seed(0))

    @cached_property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """The channel groups that the method masked."""
        return prunable(channel_groups(self.build_model(), self.example_input(), couple=self.method.couple))

    def masks(self) -> dict[str, Tensor]:
        """Closed channels of the result: group name → (size,) bool, true where all filters are exactly 0."""
        tensors = read_tensors(member(self.path, MODEL))
        return {group.name: _closed(group, tensors) for group in self.groups}


def _closed(group: ChannelGroup, tensors: dict[str, Tensor]) -> Tensor:
    closed = torch.ones(group.size, dtype=torch.bool)
    for rows in group.filters:
        by_row = tensors[rows.name].movedim(rows.dim, 0)
        zero = (by_row.reshape(len(by_row), -1) == 0).all(1)
        closed &= zero[rows.index].all(1)
    return closed


def is_finished(folder: Path) -> bool:
    """Whether the run in ``folder`` came to its end: its result is written last."""
    return holds(folder, MODEL) and holds(folder, METRICS)


def read_record(folder: Path) -> dict[str, Any]:
    """``config.json`` of a run.

    Raises:
        FileFormatError: if it is missing, corrupt, or of something else; or if the folder holds a link.
    """
    if folder.is_dir():
        refuse_links(folder)
    check_run(folder)
    record = read_json(member(folder, CONFIG))
    if not {"train", "data", "environment"} <= record.keys():
        hint = ": the folder is a bundle, give the run that it was made from" if holds(folder, "model.json") else ""
        raise FileFormatError(f"{folder / CONFIG} does not describe a run{hint}.")
    check(record, "run", str(folder / CONFIG))
    data = record["data"]
    if not len(data["mean"]) == len(data["std"]) == data["image_shape"][0]:
        raise FileFormatError(f"{folder / CONFIG} does not describe the data of a run: `mean` and `std` are a number a channel.")
    return record


def read_config(folder: Path, record: dict[str, Any]) -> TrainConfig:
    """The settings in a run's ``config.json``.

    Raises:
        FileFormatError: if they are not what a run writes.
    """
    try:
        return TrainConfig.from_dict(record["train"])
    except (FileFormatError, ArgumentError, ModelError, TypeError, KeyError, AttributeError) as error:
        raise FileFormatError(f"{folder / CONFIG}: {error}") from None
