"""A checkpoint in, a network that can be run out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from slimnet.data import recorded_classes
from slimnet.models import Defaults, build_model, defaults_of, load_weights, resolved
from slimnet.models.weights import first_and_last
from slimnet.progress import Say, say_from

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGE_SIZE = 32
"""Side of the input where nobody says one."""

_say = say_from(__name__)


def open_checkpoint(
    checkpoint: Path | str,
    *,
    model: str,
    num_classes: int | None = None,
    in_channels: int | None = None,
    image_size: int | None = None,
    model_args: Mapping[str, Any] | None = None,
    say: Say = _say,
) -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """Build a network and load a checkpoint into it.

    Args:
        checkpoint: .safetensors, or a state dict (.pth, .th, .pt).
        model: name of the network (see `slimnet.build_model`).
        num_classes, in_channels: None: as in the file.
        image_size: side of the input; None: as timm says for its networks, else 32.
        model_args: further arguments for what builds the network.
        say: told what timm says of the network.

    Returns:
        The network in eval mode, random input (2, C, H, W), and what it takes to build the network again, with the names of its
        classes where the checkpoint lies in a run.

    Raises:
        FileFormatError: if the file is missing, corrupt, or not a plain state dict.
        ModelError: if it does not fit the network.
    """
    found_in, found_out = first_and_last(Path(checkpoint))
    outputs, channels = num_classes or found_out, in_channels or found_in
    model, arguments = resolved(model, model_args)
    known = defaults_of(model, arguments)
    network = build_model(model, num_classes=outputs, in_channels=channels, model_args=arguments)
    load_weights(network, checkpoint)
    shape = [channels, *[image_size or (known.size if known else IMAGE_SIZE)] * 2]
    example = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    config = {"model": model, "num_classes": outputs, "in_channels": channels, "image_shape": shape}
    if arguments:
        config["model_args"] = arguments
    names = recorded_classes(checkpoint)
    if names is not None and len(names) == outputs:
        config["classes"] = list(names)
    return network.eval(), example, config | _pictures(known, model, shape, say)


def _pictures(known: Defaults | None, model: str, shape: list[int], say: Say) -> dict[str, Any]:
    """The size, and the mean and deviation that timm says of a network, where it has that many channels."""
    if known is None or len(known.mean) != shape[0]:
        return {}
    say(f"pictures of {shape[1]}×{shape[2]}, with the {known.normalisation} that timm says of {model}")
    return {"image_size": shape[1], "mean": list(known.mean), "std": list(known.std)}
