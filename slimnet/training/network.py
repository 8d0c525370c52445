"""The network of a run: its initial weights, the layers that are not trained, the order of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slimnet._foreign import no_exit
from slimnet._modes import in_eval_mode
from slimnet.data import Dataset, match_classes, recorded_classes
from slimnet.errors import ArgumentError, ModelError, whole_text
from slimnet.models import build_model, heads_of, load_weights, weights_file
from slimnet.progress import Say, say_from
from slimnet.training.config import TrainConfig
from slimnet.training.slim_start import is_slim_folder, load_slim_start

_DROPOUT = nn.modules.dropout._DropoutNd

_say = say_from(__name__)


def build_network(config: TrainConfig, dataset: Dataset) -> nn.Module:
    """The network that ``config`` names, for the images and classes of ``dataset``, with random weights."""
    return build_model(config.model, model_args=config.model_args, **_numbers(dataset))


def _numbers(dataset: Dataset) -> dict[str, Any]:
    return {"num_classes": dataset.num_classes, "in_channels": dataset.image_shape[0]}


def initial_network(config: TrainConfig, dataset: Dataset, example: Tensor, *, init: str | None, say: Say) -> nn.Module:
    """The network that training begins with, on the CPU; its random weights depend on the seed alone.

    Args:
        config: the settings.
        dataset: whose images and classes it is for.
        example: (N, C, H, W) images for it.
        init: a file of weights, or the folder of a slim network, whose weights come to stand at full size; None: random ones.
        say: told what was adapted.

    Raises:
        ArgumentError: if ``freeze`` or ``dropout`` finds no layer.
        DataError: if the file is of a network for other classes.
        FileFormatError: if the file is missing or corrupt.
        ModelError: if the network does not take the images or give the classes, or the weights do not fit.
    """
    torch.manual_seed(config.seed)
    model = build_network(config, dataset)
    classes = None
    if init and is_slim_folder(init):
        classes = load_slim_start(model, init)
    elif init:
        heads = partial(heads_of, config.model, config.model_args, **_numbers(dataset))
        for note in load_weights(model, init, new_head=heads, key=config.weights_key):
            say(note)
    freeze(model, config.freeze)
    set_dropout(model, config.dropout)
    logits = _checked_logits(model, example, dataset, config)
    if init:
        if not bool(logits.isfinite().all()):
            raise ModelError(f"{config.model} answers NaN or infinity with the weights of {init}: they are too large to train.")
        order_head(model, init, dataset.classes, example, whose=dataset.name, known=classes, say=say)
    return model


def _checked_logits(model: nn.Module, example: Tensor, dataset: Dataset, config: TrainConfig) -> Tensor:
    """(N, classes) that the network gives, once it takes the images and gives a logit for each class."""
    try:
        with no_exit(config.model):
            logits = _logits(model, example)
    except Exception as error:  # a network may raise anything on images it was not made for
        shape, reason = tuple(example.shape[1:]), whole_text(error)
        raise ModelError(f"{config.model} cannot take images of shape {shape}: {reason}.") from error
    wanted = (len(example), dataset.num_classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"{config.model} must give logits of shape {wanted} for {dataset.name}, it gives {got}.")
    return logits


def frozen_modules(model: nn.Module, patterns: Sequence[str]) -> tuple[nn.Module, ...]:
    """The modules whose name, or the name of a module around them, is like a pattern (``conv_*``)."""
    return tuple(module for name, module in model.named_modules() if _is_named(name, patterns))


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Take what patterns name out of training, in place: its weights get no gradient.

    Raises:
        ArgumentError: if a pattern names nothing that has weights, or nothing is left to be trained.
    """
    for pattern in patterns:
        weights = [weight for module in frozen_modules(model, (pattern,)) for weight in module.parameters()]
        if not weights:
            names = [name for name, module in model.named_modules() if name and list(module.parameters(recurse=False))]
            shown = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
            raise ArgumentError(f"`freeze` names {pattern!r}, like which no layer with weights is named; there are {shown}.")
        for weight in weights:
            weight.requires_grad_(False)
    if patterns and not any(weight.requires_grad for weight in model.parameters()):
        raise ArgumentError(f"`freeze` names {', '.join(patterns)}: nothing is left to be trained.")


def train_mode(model: nn.Module, patterns: Sequence[str]) -> None:
    """Put ``model`` in training mode, in place, but what is frozen in eval mode: its norms keep their statistics."""
    model.train()
    for module in frozen_modules(model, patterns):
        module.eval()


def set_dropout(model: nn.Module, share: float | None) -> None:
    """Let every dropout of ``model`` leave out this share in training, in place; None leaves them as they are.

    Raises:
        ArgumentError: if the network has no dropout module.
    """
    if share is None:
        return
    found = [module for module in model.modules() if isinstance(module, _DROPOUT)]
    if not found:
        raise ArgumentError(f"`dropout` is {share}, but the network has no dropout layer: leave it out.")
    for module in found:
        module.p = share


def _is_named(name: str, patterns: Sequence[str]) -> bool:
    parts = name.split(".")
    outer = [".".join(parts[: i + 1]) for i in range(len(parts))] if name else []
    return any(fnmatchcase(each, pattern) for each in outer for pattern in patterns)


def order_head(
    model: nn.Module,
    weights: Path | str,
    classes: Sequence[str],
    example: Tensor,
    *,
    whose: str,
    known: Sequence[str] | None = None,
    say: Say = _say,
) -> None:
    """Bring the outputs of a network, with weights from a file loaded, into the order of some classes, in place.

    A file that lies in no run has no names: nothing is done then, nor where the number of its classes is another (the network
    has a head of its own then).

    Args:
        model: the network.
        weights: where its weights came from.
        classes: names that its outputs are to have.
        example: (N, C, H, W) images for it.
        whose: what a message calls the data set of the classes.
        known: names of the outputs; None: as recorded beside the file.
        say: told where the order was another.

    Raises:
        DataError: if the file is of a network for other classes.
        ModelError: if the order is another, and the network has no last layer that can be brought into this one.
    """
    known = known or recorded_classes(weights_file(Path(weights)))
    if known is None or len(known) != len(classes):
        return
    hint = f"take the file out of its run, {Path(weights).parent}, to start from it nonetheless"
    match = match_classes(known, classes, who=f"the network in {weights}", whose=whose, whole=True, hint=hint)
    if match.note:
        say(match.note)
    permute_head(model, match.outputs, example, who=str(weights))


def permute_head(model: nn.Module, order: Sequence[int], example: Tensor, *, who: str) -> None:
    """Let output i of ``model`` be what output ``order[i]`` was, in place, by moving the rows of its last layer.

    Raises:
        ModelError: if the last layer does not make the outputs one by one; nothing is changed then.
    """
    if list(order) == list(range(len(order))):
        return
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    index = torch.tensor(order)
    if layers and len(layers[-1].weight) == len(order):
        wanted = _logits(model, example)[:, index]
        _move_rows(layers[-1], index)
        if torch.allclose(_logits(model, example), wanted, rtol=1e-4, atol=1e-5):
            return
        _move_rows(layers[-1], index.argsort())
    raise ModelError(f"{who} has its classes in another order, and its last layer cannot be reordered: train it in this order.")


def _logits(model: nn.Module, example: Tensor) -> Tensor:
    with in_eval_mode(model), torch.no_grad():
        logits: Tensor = model(example)
    return logits


@torch.no_grad()
def _move_rows(layer: nn.Linear | nn.Conv2d, index: Tensor) -> None:
    for tensor in (layer.weight, layer.bias):
        if tensor is not None:
            tensor.copy_(tensor[index.to(tensor.device)].clone())
