"""A checkpoint in, a network that can be run out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from slimnet.data import recorded_classes
from slimnet.models import build_model, load_weights
from slimnet.models.weights import first_and_last

if TYPE_CHECKING:
    from torch import Tensor, nn


def open_checkpoint(
    checkpoint: Path | str, *, model: str, num_classes: int | None, in_channels: int | None, image_size: int
) -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """Build a network and load a checkpoint into it.

    Args:
        checkpoint: .safetensors, or a state dict (.pth, .th, .pt).
        model: name of the network, or ``package.module:function``.
        num_classes, in_channels: None: as in the file.
        image_size: side of the input.

    Returns:
        The network in eval mode, random input (2, C, H, W), and what it takes to build the network again, with the names of its
        classes where the checkpoint lies in a run.

    Raises:
        FileFormatError: if the file is missing, corrupt, or not a plain state dict.
        ModelError: if it does not fit the network.
    """
    found_in, found_out = first_and_last(Path(checkpoint))
    outputs, channels = num_classes or found_out, in_channels or found_in
    network = build_model(model, num_classes=outputs, in_channels=channels)
    load_weights(network, checkpoint)
    shape = [channels, image_size, image_size]
    example = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    config = {"model": model, "num_classes": outputs, "in_channels": channels, "image_shape": shape}
    names = recorded_classes(checkpoint)
    if names is not None and len(names) == outputs:
        config["classes"] = list(names)
    return network.eval(), example, config
