"""What criteria that need data learn from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from slimnet._modes import in_eval_mode
from slimnet.commands.opening import open_part
from slimnet.criteria import ClassStatistics, as_logits, collect_class_statistics, statistics_modules
from slimnet.errors import DataError
from slimnet.graph import channel_groups, prunable
from slimnet.names import Couple
from slimnet.progress import Say, each, say_from

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slimnet.data import Dataset

_say = say_from(__name__)

CALIBRATION_IMAGES = 1000


def load_images_for(
    example: Tensor, data: str | None, data_dir: str | None, about: Mapping[str, Any], splits: Mapping[str, Any] | None = None
) -> Dataset:
    """The data set, in the size of the network's input.

    Args:
        example: the network's input (N, C, H, W).
        data, data_dir: the data set.
        about: what is known of the network (see `slimnet.commands.opening.open_checkpoint`): the ``mean`` and ``std`` that it
            was trained with are the data's own where it has none.
        splits: settings that say which pictures are in which split, see `slimnet.commands.opening.recorded_splits`; ``members``
            among them as `slimnet.data.load_data` takes them.

    Raises:
        DataError: if it is missing or malformed, or has other channels; or the network takes no square pictures.
    """
    from slimnet.data import load_data
    from slimnet.training.data import without_votes

    how = {name: value for name, value in (splits or {}).items() if name != "soft_labels"}
    loaded = load_data(str(data), data_dir=data_dir, image_size=example.shape[-1], **without_votes(how))
    if loaded.image_shape[0] != example.shape[1]:
        raise DataError(f"{data} has images of {loaded.image_shape[0]} channels, the network takes {example.shape[1]}.")
    if loaded.image_shape != tuple(example.shape[1:]):
        sizes = "×".join(map(str, example.shape[2:]))
        raise DataError(
            f"the network takes images of {sizes}, those of {data} are made square: "
            "give a network of square images, or a criterion that needs no data, without --data."
        )
    if about.get("mean") is None or about.get("std") is None:
        return loaded
    return replace(loaded, mean=tuple(about["mean"]), std=tuple(about["std"]))


def calibrate(
    model: nn.Module,
    example: Tensor,
    source: str,
    couple: Couple,
    data: str | None,
    data_dir: str | None,
    *,
    about: Mapping[str, Any],
    splits: Mapping[str, Any] | None = None,
    part: str | None = None,
    say: Say = _say,
) -> ClassStatistics | None:
    """Class statistics (for "cs"), or gradients left on the parameters (for "taylor").

    Gradients need to know which output is which class: by the ``classes`` of ``about``, the names of the network's outputs;
    without them as many classes as outputs are taken to be in its order, and that is said. Pictures are normalised by its mean
    and deviation, see :func:`load_images_for`, which takes ``splits``, too.

    Statistics are of the channel groups of ``part``, where that is given; the whole network runs.

    Raises:
        ArgumentError: if gradients are asked for, and the network gives no logits.
        DataError: if the data is missing or malformed, or does not fit the network.
    """
    from slimnet.data import calibration_batches, match_classes, match_count

    loaded = load_images_for(example, data, data_dir, about, splits)
    classes = about.get("classes")
    batches = list(calibration_batches(loaded, CALIBRATION_IMAGES, 100))
    shown = each(batches, "calibrating", len(batches))
    if source == "statistics":
        groups = prunable(channel_groups(*open_part(model, example, part), couple=couple))
        modules = list(dict.fromkeys(module for group in groups for module in statistics_modules(group)))
        return collect_class_statistics(model, modules, shown, loaded.num_classes)
    if source == "gradients":
        if classes is not None:
            match = match_classes(classes, loaded.classes, who="the checkpoint", whose=loaded.name)
            outputs, note = torch.tensor(match.outputs), match.note
        else:
            with in_eval_mode(model), torch.no_grad():
                count = as_logits(model(example), model).shape[1]
            outputs, note = torch.arange(count), match_count(count, loaded.classes, who="the checkpoint", whose=loaded.name)
        if note:
            say(note)
        for images, labels in shown:
            torch.nn.functional.cross_entropy(as_logits(model(images), model), outputs[labels]).backward()  # type: ignore[no-untyped-call]
    return None
