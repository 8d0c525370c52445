"""The small network of a bundle again, in PyTorch and without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.errors import ArgumentError, FileFormatError, ModelError, SurgeryError

if TYPE_CHECKING:
    from torch import nn


def load_slim(path: Path | str) -> nn.Module:
    """Build the small network of a bundle again in PyTorch, without pickle.

    Args:
        path: a bundle, or any folder with ``config.json``, ``plan.json`` and ``slim.safetensors``.

    Returns:
        The slim model in eval mode, on the CPU.

    Raises:
        FileFormatError: if a file is missing, corrupt, or does not fit the others.
    """
    from slimnet._files import read_json, read_tensors
    from slimnet.export.manifest import is_compact
    from slimnet.surgery import Plan

    folder = Path(path)
    if (folder / "model.json").is_file() and is_compact(read_json(folder / "model.json")):
        raise FileFormatError(f"{folder} is compact: it holds no weights for PyTorch. Run its ONNX file, or export all of it.")
    config, tensors = read_json(folder / "config.json", "network"), read_tensors(folder / "slim.safetensors")
    model = _bare_model(folder / "config.json", config)
    described = read_json(folder / "plan.json")
    try:
        Plan.from_dict(described).apply(model)
    except (FileFormatError, SurgeryError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise FileFormatError(f"{folder / 'plan.json'} does not fit {config['model']}: {error}") from None
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise FileFormatError(f"{folder / 'slim.safetensors'} does not fit plan.json: {reason}") from None
    return model.eval()


def load_dense_shape(path: Path | str) -> nn.Module:
    """The dense network of a bundle in PyTorch with fresh weights, the same every time: for its cost, not for its answers.

    A bundle holds the dense network's trained weights only inside ``dense.onnx``.

    Args:
        path: a bundle, or any folder with ``config.json``.

    Raises:
        FileFormatError: if the file is missing or does not describe a network.
    """
    import torch

    from slimnet._files import read_json

    file = Path(path) / "config.json"
    config = read_json(file, "network")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _bare_model(file, config, device="cpu").eval()


def _bare_model(file: Path, config: Mapping[str, Any], device: str = "meta") -> nn.Module:
    """The network that ``config.json`` describes: without weights, or on another device with fresh ones."""
    import torch

    from slimnet.models import build_model

    try:
        with torch.device(device):
            return build_model(config["model"], num_classes=config["num_classes"], in_channels=config["in_channels"])
    except (ArgumentError, ModelError) as error:
        raise FileFormatError(f"{file}: {error}") from None
