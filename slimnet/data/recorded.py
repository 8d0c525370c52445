"""What the ``config.json`` beside weights says of the pictures that they were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slimnet.errors import FileFormatError
from slimnet.fields import is_number, is_whole
from slimnet.files import read_json

MeanStd = tuple[Sequence[float], Sequence[float]]
SAME_PICTURES = 0.05
"""Part of a deviation by which a mean may be another, and of itself by which a deviation may: another split does no more."""

_OF_RUN = {"train", "data", "environment"}
_OF_NETWORK = {"model", "num_classes", "in_channels", "image_shape"}


def recorded_classes(weights: Path | str) -> tuple[str, ...] | None:
    """Names of the outputs of a network whose weights lie in a run, or in what ``slimnet prune`` made of one.

    Returns:
        The names, or None where the ``config.json`` beside the weights has none, or there is no such file.

    Raises:
        FileFormatError: if there is one, but it is not readable JSON.
    """
    names = _recorded(_config(weights), "data").get("classes")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def recorded_statistics(weights: Path | str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The mean and deviation of the pictures that weights were trained on.

    Args:
        weights: the file.
        channels: of the pictures.

    Returns:
        A value a channel each, where 255 is 1; None where nothing is said, or of other channels.

    Raises:
        FileFormatError: if the file beside them is no JSON, or a deviation in it is not above 0.
    """
    about = _recorded(_config(weights), "data")
    mean: Any = about.get("mean")
    std: Any = about.get("std")
    if not all(isinstance(each, list) and len(each) == channels and all(map(is_number, each)) for each in (mean, std)):
        return None
    if min(std) <= 0:
        raise FileFormatError(f"{_config(weights)}: `std` must be above 0, got {std}.")
    return tuple(mean), tuple(std)


def recorded_size(weights: Path | str) -> int | None:
    """The side to which pictures were brought, in pixels, where the run that weights are of had it set; else None.

    Raises:
        FileFormatError: if the file beside them is no JSON.
    """
    size: Any = _recorded(_config(weights), "train").get("image_size")
    return size if is_whole(size) and size >= 1 else None


def are_same(learnt: MeanStd, given: MeanStd) -> bool:
    """Whether two means and deviations are those of the same pictures, as far as another split goes."""
    (its_mean, its_std), (mean, std) = learnt, given
    far = [abs(ours - its) / deviation for its, ours, deviation in zip(its_mean, mean, std, strict=True)]
    return max([*far, *(abs(its / ours - 1) for its, ours in zip(its_std, std, strict=True))]) <= SAME_PICTURES


def shown_statistics(statistics: MeanStd) -> str:
    """A mean and deviation as a message tells them."""
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in statistics)
    return f"mean {mean} and deviation {std}"


def _config(weights: Path | str) -> Path:
    return Path(weights).parent / "config.json"


def _recorded(config: Path, part: str) -> dict[str, Any]:
    """A part of what a run says, or what ``slim``, ``prune`` and a bundle say in one piece; nothing of another's file, such as
    transformers and timm put beside weights."""
    found = read_json(config) if config.is_file() else {}
    if found.keys() >= _OF_RUN:
        return found[part] if isinstance(found[part], dict) else {}
    return found if found.keys() >= _OF_NETWORK else {}
