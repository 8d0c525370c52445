"""A checkpoint in, a network that can be run out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from slimnet.data import recorded_classes, recorded_statistics
from slimnet.errors import ArgumentError, FileFormatError, GraphError
from slimnet.files import read_json
from slimnet.files.untrusted import holds, member, refuse_links
from slimnet.known import is_onnx
from slimnet.models import (
    Defaults,
    build_model,
    check_model,
    check_trusted,
    defaults_of,
    find_sizes,
    load_weights,
    resolved,
    weights_file,
)
from slimnet.names import SIZED_DATA
from slimnet.progress import Say, say_from

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimnet.models import Trust
    from slimnet.onnx_surgery import Reading

IMAGE_SIZE = 32
"""Side of the input where nobody says one."""

_OF_PICTURES = ("image_size", "normalise")
_OF_SPLITS = ("data", "data_dir", "data_options", "val_fraction", "seed", "soft_labels")
_say = say_from(__name__)


def open_checkpoint(
    checkpoint: Path | str,
    *,
    model: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    image_size: int | None = None,
    model_args: Mapping[str, Any] | None = None,
    weights_key: str | None = None,
    trust_code: Trust = False,
    say: Say = _say,
) -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """Build a network and load a checkpoint into it.

    Args:
        checkpoint: a file of weights, or a folder with one (see `slimnet.models.load_weights`): a run, what ``prune`` wrote, or
            what accelerate or transformers saved; or an ONNX file, of which only ``image_size`` may have to be said.
        model: name of the network (see `slimnet.build_model`); None: as the run says.
        num_classes, in_channels: None: as in the file.
        image_size: side of the input; None: as the run says, or timm of its networks, or 32.
        model_args: further arguments for what builds the network; None: as the run says, where it names the model.
        weights_key: which of several state dicts is meant; None: the plain weights.
        trust_code: whether a factory that the run names, and not you, may build the network (see `slimnet.models.trust`).
        say: told, a line each, what was chosen and adapted, and what timm says of the network.

    Returns:
        The network in eval mode, random input (2, C, H, W), and what it takes to build the network again, with the names of its
        classes where the checkpoint lies in a run.

    Raises:
        ArgumentError: if no model is named, and the checkpoint is no run.
        FileFormatError: if the file is missing, corrupt, or holds no weights.
        ModelError: if it does not fit the network, or a factory is to build it that is not trusted.
    """
    if is_onnx(checkpoint):
        options = {"model": model, "num_classes": num_classes, "in_channels": in_channels, "weights_key": weights_key}
        reading = open_onnx(checkpoint, image_size=image_size, model_args=model_args, **options)
        return reading.model, example_of(reading), {"image_shape": list(reading.inputs[0].shape[1:]), **onnx_pictures(checkpoint)}
    recorded = _recorded(Path(checkpoint))
    file = weights_file(Path(checkpoint))
    if model is None:
        model, own_args = recorded_network(checkpoint, trust_code)
        model_args = model_args or own_args
    name, arguments = resolved(model, model_args)
    check_model(name)

    def build(classes: int, channels: int) -> nn.Module:
        return build_model(name, num_classes=classes, in_channels=channels, model_args=arguments)

    if num_classes is None or in_channels is None:
        found = find_sizes(build, file, key=weights_key)
        num_classes, in_channels = num_classes or found[0], in_channels or found[1]
    network = build(num_classes, in_channels)
    for note in load_weights(network, file, key=weights_key):
        say(note)
    known = defaults_of(name, arguments)
    shape = [in_channels, *_side(image_size, recorded, known)]
    example = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    config = {"model": name, "num_classes": num_classes, "in_channels": in_channels, "image_shape": shape}
    if arguments:
        config["model_args"] = arguments
    names = recorded_classes(file)
    if names is not None and len(names) == num_classes:
        config["classes"] = list(names)
    return network.eval(), example, config | (_own_pictures(file, recorded, shape) or _pictures(known, name, shape, say))


def open_part(model: nn.Module, example: Tensor, part: str | None) -> tuple[nn.Module, Tensor | tuple[Tensor, ...]]:
    """The submodules that ``part`` names as a network, and what they are given in a run of the whole; the whole for None.

    Raises:
        ArgumentError: if there is no such submodule.
        GraphError: if they make no part that can be cut.
    """
    if part is None:
        return model, example
    from slimnet.parts import catch_part

    caught = catch_part(model, example, part)
    return caught.module, caught.inputs[0] if len(caught.inputs) == 1 else caught.inputs


def no_part(part: str | None, name: str) -> None:
    """An ONNX file is one piece.

    Raises:
        ArgumentError: if a part of it is asked for.
    """
    if part is not None:
        raise ArgumentError(f"`part` is for modules: leave it out for {name}, an ONNX file.")


def open_onnx(path: Path | str, *, image_size: int | None = None, **options: Any) -> Reading:
    """Read an ONNX file into a module, held against what ONNX Runtime computes.

    Args:
        path: the file.
        image_size: sides of pictures where the file leaves them open; default 224.
        **options: those of :func:`open_checkpoint` that say which network it is: the file does so itself.

    Raises:
        ArgumentError: if such an option is given.
        FileFormatError: if it is missing, or no ONNX file.
        GraphError: if it cannot be followed.
    """
    from slimnet.onnx_surgery import read_checked

    given = [name for name, value in options.items() if value and name != "trust_code"]
    if given:
        flag = given[0].replace("_", "-")
        raise ArgumentError(f"{path} says itself what network it is: leave --{flag} (`{given[0]}` in Python) out.")
    return read_checked(Path(path), image_size=image_size)


def example_of(reading: Reading) -> Tensor:
    """Input for a network of one input.

    Raises:
        GraphError: if it has another number of inputs.
    """
    if len(reading.inputs) != 1:
        raise GraphError(
            f"{reading.document.name} has {len(reading.inputs)} inputs: only networks of one are pruned (slim takes any)."
        )
    return reading.inputs[0]


def _side(given: int | None, recorded: Mapping[str, Any], known: Defaults | None) -> list[int]:
    """Height and width of the input."""
    if given:
        return [given, given]
    if "image_shape" in recorded:
        return list(recorded["image_shape"][1:])
    return [known.size if known else IMAGE_SIZE] * 2


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
        train = record["train"]
        said = {name: train[name] for name in ("model", "model_args", *_OF_PICTURES, *_OF_SPLITS) if train.get(name) is not None}
        return {**said, "image_shape": record["data"]["image_shape"]}
    if not {"model", "num_classes", "in_channels", "image_shape"} <= found.keys():
        return {}  # transformers has a file of this name too
    return read_json(file, "network")


def recorded_network(checkpoint: Path | str, trust_code: Trust) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the network whose weights a checkpoint holds, as its ``config.json`` says.

    Raises:
        ArgumentError: if it is no run, and nothing that ``prune`` wrote.
        FileFormatError: if the file is corrupt.
        ModelError: if a factory is to build it that is not trusted.
    """
    path = Path(checkpoint)
    recorded = _recorded(path)
    name, arguments = recorded.get("model"), recorded.get("model_args", {})
    if name is None:
        raise ArgumentError(f"{path} does not say which network its weights are of: name it with --model (`model` in Python).")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise FileFormatError(f"{path / 'config.json'} names no network.")
    check_trusted(name, path / "config.json", trust_code, arguments)
    return name, arguments


def recorded_pictures(checkpoint: Path | str) -> dict[str, Any]:
    """The settings ``image_size`` and ``normalise`` of the run that a checkpoint is, where it had some."""
    recorded = _recorded(Path(checkpoint))
    return {name: recorded[name] for name in _OF_PICTURES if name in recorded}


def recorded_splits(checkpoint: Path | str, data: str | None, data_dir: Path | str | None) -> dict[str, Any]:
    """The settings that say which pictures of a data set are in which split, and what their labels are, of the run that a
    checkpoint is: ``data_options``, ``val_fraction``, ``seed``, ``soft_labels``. Nothing where it was trained on other data."""
    if data is None:
        return {}
    try:
        recorded = _recorded(splits_folder(checkpoint))
    except FileFormatError:
        if Path(checkpoint).is_dir():
            raise
        return {}  # what lies beside a file of weights need not be a run, and links among it are no fault of the weights
    if recorded.get("data") != data:
        return {}
    if data not in SIZED_DATA and _place(recorded.get("data_dir")) != _place(data_dir):
        return {}  # pictures of one's own are the same only where they lie in the same place
    return {name: recorded[name] for name in _OF_SPLITS[2:] if name in recorded}


def _place(data_dir: Any) -> Path | None:
    return None if data_dir is None else Path(str(data_dir)).resolve()


def splits_folder(checkpoint: Path | str) -> Path:
    """The run that a checkpoint is, or whose weights it is: the folder whose ``config.json`` tells of the data."""
    path = Path(checkpoint)
    return path if path.is_dir() else path.parent


def with_options(splits: Mapping[str, Any], given: Mapping[str, bool] | None) -> dict[str, Any]:
    """These settings, with single options of the data set's own in place of what they say."""
    return dict(splits) if not given else {**splits, "data_options": {**splits.get("data_options", {}), **given}}


def with_members(checkpoint: Path | str, splits: Mapping[str, Any]) -> dict[str, Any]:
    """These settings, with who is in which split if the run wrote that down: ``members`` of `slimnet.data.load_data`."""
    from slimnet.data.splits import SPLIT_FILE, read_splits

    folder = splits_folder(checkpoint)
    return {**splits, "members": read_splits(folder)} if splits and holds(folder, SPLIT_FILE) else dict(splits)


def onnx_pictures(path: Path | str) -> dict[str, Any]:
    """Names of the classes, mean and deviation that an ONNX file of a bundle carries; nothing of another's.

    Raises:
        FileFormatError: if its metadata is damaged.
    """
    from slimnet.onnx.metadata import onnx_labels, onnx_statistics

    names, numbers = onnx_labels(Path(path)), onnx_statistics(Path(path))
    found: dict[str, Any] = {} if names is None else {"classes": list(names)}
    return found if numbers is None else {**found, "mean": list(numbers[0]), "std": list(numbers[1])}


def _own_pictures(weights: Path, recorded: Mapping[str, Any], shape: list[int]) -> dict[str, Any]:
    """The mean and deviation that weights were trained with, and the size to which pictures were brought; nothing where their
    ``config.json`` says none."""
    numbers = recorded_statistics(weights, shape[0])
    if numbers is None:
        return {}
    found = {"mean": list(numbers[0]), "std": list(numbers[1])}
    return found | ({"image_size": shape[1]} if recorded.get("image_size") else {})


def _pictures(known: Defaults | None, model: str, shape: list[int], say: Say) -> dict[str, Any]:
    """The size, and the mean and deviation that timm says of a network, where it has that many channels."""
    if known is None or len(known.mean) != shape[0]:
        return {}
    say(f"pictures of {shape[1]}×{shape[2]}, with the {known.normalisation} that timm says of {model}")
    return {"image_size": shape[1], "mean": list(known.mean), "std": list(known.std)}
