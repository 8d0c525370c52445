"""The network whose opinion another one learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from slimnet.data import Dataset
from slimnet.errors import ModelError
from slimnet.models import Trust, load_weights
from slimnet.training.config import TrainConfig
from slimnet.training.inputs import build_config_model
from slimnet.training.run import Run


@dataclass(frozen=True, eq=False)
class Teacher:
    """A fixed network that gives logits for the images that a student sees.

    Attributes:
        model: in eval mode, without gradients, on the device of training.
        scale: (1, C, 1, 1), by which the student's images are multiplied before the teacher sees them.
        shift: (1, C, 1, 1), what is added then.
    """

    model: nn.Module
    scale: Tensor
    shift: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images as the student sees them → (N, classes) logits."""
        with torch.no_grad():
            logits: Tensor = self.model(torch.addcmul(self.shift, images, self.scale))
        return logits


def load_teacher(config: TrainConfig, dataset: Dataset, device: torch.device, *, trust_code: Trust = False) -> Teacher | None:
    """The teacher that ``config`` names: a finished run, or a file of weights for the student's own network.

    A run may have been trained with another mean and deviation: images are brought to its own.

    Returns:
        The teacher on ``device``, or None where none is named.

    Raises:
        FileFormatError: if the run or the file is missing, unfinished or corrupt.
        ModelError: if it was made for other classes or other images, or the weights do not fit; or a factory is to build it that
            is not trusted.
    """
    if config.teacher is None:
        return None
    path = Path(config.teacher)
    mean, std = dataset.mean, dataset.std
    if path.is_dir():
        run = Run.open(path, trust_code=trust_code)
        _check(run, dataset)
        model, mean, std = run.load_model(), run.mean, run.std
    else:
        model = build_config_model(config, dataset)
        load_weights(model, path)
    scale = [student / own for student, own in zip(dataset.std, std, strict=True)]
    shift = [(student - own) / deviation for student, own, deviation in zip(dataset.mean, mean, std, strict=True)]
    model.eval().requires_grad_(False).to(device)
    return Teacher(model, _column(scale, device), _column(shift, device))


def _check(run: Run, dataset: Dataset) -> None:
    for what, own, wanted in (
        ("classes", run.classes, dataset.classes),
        ("images of shape", run.image_shape, dataset.image_shape),
    ):
        if own != wanted:
            raise ModelError(f"the teacher {run.path} was trained for {what} {own}, {dataset.name} has {wanted}.")


def _column(values: list[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
