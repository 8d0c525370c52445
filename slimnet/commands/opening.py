"""A checkpoint in, a network that can be run out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from slimnet.data import recorded_classes
from slimnet.errors import ArgumentError, FileFormatError
from slimnet.files import read_json
from slimnet.files.untrusted import holds, member, refuse_links
from slimnet.models import build_model, check_model, check_trusted, find_sizes, load_weights, weights_file
from slimnet.progress import Say, say_from

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimnet.models import Trust

_say = say_from(__name__)
_SIDE = 32


def open_checkpoint(
    checkpoint: Path | str,
    *,
    model: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    image_size: int | None = None,
    weights_key: str | None = None,
    trust_code: Trust = False,
    say: Say = _say,
) -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """Build a network and load a checkpoint into it.

    Args:
        checkpoint: a file of weights, or a folder with one (see `slimnet.models.load_weights`): a run, what ``prune`` wrote, or
            what accelerate or transformers saved.
        model: name of the network, or ``package.module:function``; None: as the run says.
        num_classes, in_channels: None: as in the file.
        image_size: side of the input; None: as the run says, or 32.
        weights_key: which of several state dicts is meant; None: the plain weights.
        trust_code: whether a factory that the run names, and not you, may build the network (see `slimnet.models.trust`).
        say: told, a line each, what was chosen and adapted.

    Returns:
        The network in eval mode, random input (2, C, H, W), and what it takes to build the network again, with the names of its
        classes where the checkpoint lies in a run.

    Raises:
        ArgumentError: if no model is named, and the checkpoint is no run.
        FileFormatError: if the file is missing, corrupt, or holds no weights.
        ModelError: if it does not fit the network, or a factory is to build it that is not trusted.
    """
    recorded = _recorded(Path(checkpoint))
    file = weights_file(Path(checkpoint))
    name = model or _recorded_model(Path(checkpoint), recorded, trust_code)
    check_model(name)

    def build(classes: int, channels: int) -> nn.Module:
        return build_model(name, num_classes=classes, in_channels=channels)

    if num_classes is None or in_channels is None:
        found = find_sizes(build, file, key=weights_key)
        num_classes, in_channels = num_classes or found[0], in_channels or found[1]
    network = build(num_classes, in_channels)
    for note in load_weights(network, file, key=weights_key):
        say(note)
    side = [image_size] * 2 if image_size else recorded.get("image_shape", [0, _SIDE, _SIDE])[1:]
    shape = [in_channels, *side]
    example = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    config = {"model": name, "num_classes": num_classes, "in_channels": in_channels, "image_shape": shape}
    names = recorded_classes(file)
    if names is not None and len(names) == num_classes:
        config["classes"] = list(names)
    return network.eval(), example, config


def _recorded(folder: Path) -> dict[str, Any]:
    """What the ``config.json`` of a run, or of what ``prune`` wrote, says of its network; nothing of a file or another folder."""
    if not folder.is_dir() or not holds(folder, "config.json"):
        return {}
    refuse_links(folder)
    file = member(folder, "config.json")
    found = read_json(file)
    if {"train", "data", "environment"} <= found.keys():
        from slimnet.training.run import read_record

        record = read_record(folder)
        return {"model": record["train"].get("model"), "image_shape": record["data"]["image_shape"]}
    if not {"model", "num_classes", "in_channels", "image_shape"} <= found.keys():
        return {}  # transformers has a file of this name too
    return read_json(file, "network")


def _recorded_model(path: Path, recorded: dict[str, Any], trust_code: Trust) -> str:
    name = recorded.get("model")
    if name is None:
        raise ArgumentError(f"{path} does not say which network its weights are of: name it with --model (`model` in Python).")
    if not isinstance(name, str):
        raise FileFormatError(f"{path / 'config.json'} names no network.")
    check_trusted(name, path / "config.json", trust_code)
    return name
