"""The network whose opinion another one learns from."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from slimnet.data import Dataset, match_classes
from slimnet.errors import GraphError, ModelError
from slimnet.graph import analyse
from slimnet.models import Trust, load_weights
from slimnet.training.config import TrainConfig
from slimnet.training.inputs import build_config_model, example_images
from slimnet.training.run import Run


@dataclass(frozen=True, eq=False)
class Teacher:
    """A fixed network that gives logits for the images that a student sees.

    Attributes:
        model: in eval mode, without gradients, on the device of training.
        scale: (1, C, 1, 1), by which the student's images are multiplied before the teacher sees them.
        shift: (1, C, 1, 1), what is added then.
        order: (classes,) int64, the teacher's output of each class of the student; None where they are the same.
    """

    model: nn.Module
    scale: Tensor
    shift: Tensor
    order: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images as the student sees them → (N, classes) logits."""
        with torch.no_grad():
            logits: Tensor = self.model(torch.addcmul(self.shift, images, self.scale))
        return logits if self.order is None else logits[:, self.order]


def load_teacher(config: TrainConfig, dataset: Dataset, device: torch.device, *, trust_code: Trust = False) -> Teacher | None:
    """The teacher that ``config`` names: a finished run, or a file of weights for the student's own network.

    A run may have been trained with another mean and deviation: images are brought to its own.

    Returns:
        The teacher on ``device``, or None where none is named.

    Raises:
        FileFormatError: if the run or the file is missing, unfinished or corrupt.
        DataError: if it was made for other classes.
        ModelError: if it was made for other images, or the weights do not fit; or a factory is to build it that
            is not trusted.
    """
    if config.teacher is None:
        return None
    path, order = Path(config.teacher), None  # a file of weights has no names: its outputs are taken in the data's order
    mean, std = dataset.mean, dataset.std
    if path.is_dir():
        run = Run.open(path, trust_code=trust_code)
        order = _order(run, dataset)
        model, mean, std = run.load_model(), run.mean, run.std
    else:
        model = build_config_model(config, dataset)
        load_weights(model, path)
    scale = [student / own for student, own in zip(dataset.std, std, strict=True)]
    shift = [(student - own) / deviation for student, own, deviation in zip(dataset.mean, mean, std, strict=True)]
    model = without_norms(model.eval().requires_grad_(False), example_images(dataset)).to(device)
    return Teacher(model, _column(scale, device), _column(shift, device), order)


def without_norms(model: nn.Module, example: Tensor) -> nn.Module:
    """A network in eval mode with its norms folded into the convolutions before them, in place, where that gives the same.

    A teacher's forward pass then takes less than half of the time.

    Args:
        model: in eval mode, on the CPU.
        example: (N, C, H, W).
    """
    try:
        pairs = {conv.rpartition(".")[0]: norm for conv, norm in analyse(model, example).norm_behind.items()}
    except GraphError:
        return model
    folded = copy.deepcopy(model)
    for name, norm in pairs.items():
        conv, behind = folded.get_submodule(name), folded.get_submodule(norm)
        if type(conv) is nn.Conv2d and type(behind) is nn.BatchNorm2d and behind.running_mean is not None:
            folded.set_submodule(name, fuse_conv_bn_eval(conv, behind))
            folded.set_submodule(norm, nn.Identity())
    with torch.no_grad():
        return folded if torch.allclose(folded(example), model(example), rtol=1e-3, atol=1e-3) else model


def _order(run: Run, dataset: Dataset) -> Tensor | None:
    """The teacher's output of each class, matched by name; None where all stand at their own place."""
    own, wanted = run.image_shape, dataset.image_shape
    if own != wanted:
        raise ModelError(f"the teacher {run.path} was trained for images of shape {own}, {dataset.name} has {wanted}.")
    order = match_classes(run.classes, dataset.classes, who=f"the teacher {run.path}", where=dataset.name)
    return None if bool((order == torch.arange(len(order))).all()) else order


def _column(values: list[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
