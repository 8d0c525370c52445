"""The last layer of a network whose classes have names: its rows brought into another order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from slimnet._modes import in_eval_mode
from slimnet.data import match_classes, recorded_classes
from slimnet.errors import ModelError
from slimnet.progress import Say, say_from

_say = say_from(__name__)


def order_head(
    model: nn.Module, weights: Path | str, classes: Sequence[str], example: Tensor, *, whose: str, say: Say = _say
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
        say: told where the order was another.

    Raises:
        DataError: if the file is of a network for other classes.
        ModelError: if the order is another, and the network has no last layer that can be brought into this one.
    """
    known = recorded_classes(weights)
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
