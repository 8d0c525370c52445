"""timm's networks, with random weights, and what timm says of the pictures that they take. The façade over it.

timm is imported when one of its networks is asked for.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from slimnet._foreign import no_exit, no_logs
from slimnet.errors import ModelError, whole_text
from slimnet.files import read_json
from slimnet.models.trust import HUB, TIMM, check_arguments

_SET_HERE = ("num_classes", "in_chans", "in_channels")


@dataclass(frozen=True)
class Defaults:
    """What the weights that timm offers for a network were trained with.

    Attributes:
        size: side of the picture, in pixels.
        mean, std: of each channel, in units where 255 is 1.
        interpolation: by which timm resizes; slimnet always does so by ``bilinear``.
        num_classes: number of labels.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    num_classes: int

    @property
    def normalisation(self) -> str:
        """Mean and deviation as a line has them."""
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean} and deviation {std}"


def names() -> tuple[str, ...]:
    """Names of its networks; none where timm is not installed."""
    return tuple(_timm(TIMM).list_models()) if importlib.util.find_spec("timm") else ()


def is_known(name: str) -> bool:
    """Whether timm has a network of that name; a tag of weights may follow on it (``resnet18.a1_in1k``).

    Raises:
        ModelError: if timm is not installed.
    """
    return name.replace("_", "").replace(".", "").isalnum() and bool(_timm(f"{TIMM}:{name}").is_model(name))


def build(name: str, arguments: Mapping[str, Any], *, num_classes: int, in_channels: int) -> nn.Module:
    """Build one of its networks with random weights; nothing is read from a file or the network.

    Args:
        name: a name that is known.
        arguments: what else timm is given.
        num_classes, in_channels: outputs, and channels of the picture.

    Raises:
        ModelError: if timm is not installed, or cannot build it so.
    """
    check_arguments(f"{TIMM}:{name}", arguments)
    timm = _timm(f"{TIMM}:{name}")
    try:
        with no_exit(name), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a name is deprecated
            model: nn.Module = timm.create_model(
                name, pretrained=False, num_classes=num_classes, in_chans=in_channels, **arguments
            )
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"timm cannot build {name}: {type(error).__name__}: {whole_text(error)}") from error
    return model


def defaults(name: str, arguments: Mapping[str, Any]) -> Defaults:
    """What timm says of a network that is known.

    Args:
        name: of the network; with a tag, of these weights.
        arguments: that it is built with: ``img_size`` among them is the size.
    """
    said = _said(name)
    size = arguments.get("img_size", (said.get("input_size") or (3, 224, 224))[-1])
    return Defaults(
        size=int(size if isinstance(size, int) else size[-1]),
        mean=tuple(map(float, said.get("mean") or (0.485, 0.456, 0.406))),
        std=tuple(map(float, said.get("std") or (0.229, 0.224, 0.225))),
        interpolation=str(said.get("interpolation") or "bilinear"),
        num_classes=int(said.get("num_classes") or 1000),
    )


def of_hub(name: str) -> tuple[str, dict[str, Any]]:
    """The network of timm's that a name of the Hugging Face hub, or a folder in the hub's form, stands for.

    Args:
        name: of the repository (asked of the hub, or without a network of what is cached of it), or a folder that holds its
            ``config.json``.

    Returns:
        Its name at timm, ``NAME`` or ``NAME.TAG``, and its arguments.

    Raises:
        ModelError: if there is none, or it is no network of timm's.
        FileFormatError: if a folder's ``config.json`` cannot be read.
    """
    timm = _timm(f"{HUB}:{name}")
    if Path(name).is_dir():
        said = read_json(Path(name) / "config.json")
        about = said.get("pretrained_cfg", said)
        architecture, arguments = said.get("architecture"), said.get("model_args") or {}
    else:
        try:
            with no_exit(name), no_logs("huggingface_hub", "httpx"):  # of every try without a network
                about, architecture, arguments = timm.models.load_model_config_from_hf(name)
        except Exception as error:
            raise ModelError(
                f"{HUB}:{name} is no folder, and cannot be read from the Hugging Face hub or what is cached of it: "
                f"{type(error).__name__}: {whole_text(error)[:200]}"
            ) from None
    if not isinstance(architecture, str) or not isinstance(arguments, Mapping) or not is_known(architecture):
        raise ModelError(f"{HUB}:{name} is no network of timm's: its config.json names the architecture {architecture!r}.")
    check_arguments(f"{HUB}:{name}", arguments)
    tag = about.get("tag") if isinstance(about, Mapping) else None
    own = {key: value for key, value in arguments.items() if key not in _SET_HERE}
    return f"{architecture}.{tag}" if tag and _said(f"{architecture}.{tag}") else architecture, own


def _said(name: str) -> dict[str, Any]:
    """What timm says of a network's weights; empty where it says nothing, or knows none of that tag."""
    try:
        found = _timm(f"{TIMM}:{name}").get_pretrained_cfg(name)
    except RuntimeError:
        return {}
    return found.to_dict() if found is not None else {}


def _timm(what: str) -> ModuleType:
    try:
        import timm
    except ImportError:
        raise ModelError(f"{what} is a network of timm, which is not installed: pip install 'slimnet[timm]'.") from None
    return timm
