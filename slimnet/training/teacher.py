"""The network whose opinion another one learns from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from slimnet.data import Dataset, are_same, match_classes, match_count, recorded_classes, recorded_statistics, shown_statistics
from slimnet.errors import DataError, GraphError, ModelError
from slimnet.graph import analyse
from slimnet.models import Trust, load_weights
from slimnet.progress import Say, say_from
from slimnet.training.config import TrainConfig
from slimnet.training.data import example_images
from slimnet.training.network import build_network
from slimnet.training.run import Run

_say = say_from(__name__)


@dataclass(frozen=True, eq=False)
class Teacher:
    """A fixed network that gives logits for the images that a student sees.

    Attributes:
        model: in eval mode, without gradients, on the device of training.
        scale: (1, C, 1, 1), by which the student's images are multiplied before the teacher sees them.
        shift: (1, C, 1, 1), what is added then.
        outputs: for each of the student's classes, the teacher's output that stands for it; None where they are the same.
    """

    model: nn.Module
    scale: Tensor
    shift: Tensor
    outputs: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images as the student sees them → (N, classes) logits."""
        with torch.no_grad():
            logits: Tensor = self.model(torch.addcmul(self.shift, images, self.scale))
        return logits if self.outputs is None else logits[:, self.outputs]


def load_teacher(
    config: TrainConfig, dataset: Dataset, device: torch.device, say: Say = _say, *, trust_code: Trust = False
) -> Teacher | None:
    """The teacher that ``config`` names: a finished run, or a file of weights for the student's own network.

    A run may have been trained with another mean and deviation: images are brought to its own. Its classes are matched by name;
    one that the student does not have is left out, so that its share goes to the others. A file of weights that lies in no run
    has no names and no mean: its outputs are taken to be the student's classes in their order, its pictures to be the student's.

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
    who, names = f"the teacher {path}", recorded_classes(path)
    mean, std = dataset.mean, dataset.std
    if path.is_dir():
        run = _open_run(path, dataset, who, trust_code)
        model, mean, std, names = run.load_model(), run.mean, run.std, run.classes
    else:
        learnt = recorded_statistics(path, len(mean))
        if learnt is not None and not are_same(learnt, (mean, std)):
            say(f"{who} sees images normalised by {shown_statistics(learnt)}, as it learnt from them")
            mean, std = learnt
        model = build_network(config, dataset)
        for note in load_weights(model, path, key=config.weights_key if config.teacher == config.init else None):
            say(note)
    outputs = _matched_outputs(names, dataset, who, say)
    scale = [student / own for student, own in zip(dataset.std, std, strict=True)]
    shift = [(student - own) / deviation for student, own, deviation in zip(dataset.mean, mean, std, strict=True)]
    model = without_norms(model.eval().requires_grad_(False), example_images(dataset)).to(device)
    if config.compile:
        model.compile()
    return Teacher(model, _column(scale, device), _column(shift, device), None if outputs is None else outputs.to(device))


def _open_run(path: Path, dataset: Dataset, who: str, trust_code: Trust) -> Run:
    """The run that teaches, once it was trained on images like those of ``dataset``."""
    run = Run.open(path, trust_code=trust_code)
    if run.image_shape != dataset.image_shape:
        shapes = f"images of shape {run.image_shape}, {dataset.name} has {dataset.image_shape}"
        raise ModelError(f"{who} was trained for {shapes}.")
    return run


def _matched_outputs(names: Sequence[str] | None, dataset: Dataset, who: str, say: Say) -> Tensor | None:
    """For each class of ``dataset``, the teacher's output of that name; None where they are the same, or have no names."""
    if names is None:
        say(match_count(dataset.num_classes, dataset.classes, who=who, whose=dataset.name))
        return None
    try:
        match = match_classes(names, dataset.classes, who=who, whose=dataset.name)
    except DataError as error:
        raise ModelError(str(error)) from None
    if match.note:
        say(match.note)
    return None if match.is_same else torch.tensor(match.outputs)


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


def _column(values: list[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
