"""What criteria that need data learn from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from slimnet._modes import in_eval_mode
from slimnet._say import Say, silent
from slimnet.criteria import ClassStatistics, collect_class_statistics, statistics_modules
from slimnet.errors import DataError
from slimnet.graph import Couple, channel_groups, prunable

if TYPE_CHECKING:
    from torch import Tensor, nn

CALIBRATION_IMAGES = 1000


def calibrate(
    model: nn.Module,
    example: Tensor,
    source: str,
    couple: Couple,
    data: str | None,
    data_dir: str | None,
    *,
    classes: Sequence[str] | None = None,
    say: Say = silent,
) -> ClassStatistics | None:
    """Class statistics (for "cs"), or gradients left on the parameters (for "taylor").

    Gradients need to know which output is which class: by ``classes``, the names of the network's outputs; without them as many
    classes as outputs are taken to be in its order, and that is said.

    Raises:
        DataError: if the data is missing or malformed, or does not fit the network.
    """
    from slimnet.data import load_data, match_classes, match_count

    loaded = load_data(str(data), data_dir=data_dir, image_size=example.shape[-1])
    if loaded.image_shape[0] != example.shape[1]:
        raise DataError(f"{data} has images of {loaded.image_shape[0]} channels, the network takes {example.shape[1]}.")
    batches = list(_batches(loaded))
    if source == "statistics":
        groups = prunable(channel_groups(model, example, couple=couple))
        modules = list(dict.fromkeys(module for group in groups for module in statistics_modules(group)))
        return collect_class_statistics(model, modules, batches, loaded.num_classes)
    if source == "gradients":
        if classes is not None:
            match = match_classes(classes, loaded.classes, who="the checkpoint", whose=loaded.name)
            outputs, note = torch.tensor(match.outputs), match.note
        else:
            with in_eval_mode(model), torch.no_grad():
                count = model(example).shape[1]
            outputs, note = torch.arange(count), match_count(count, loaded.classes, who="the checkpoint", whose=loaded.name)
        if note:
            say(note)
        for images, labels in batches:
            torch.nn.functional.cross_entropy(model(images), outputs[labels]).backward()  # type: ignore[no-untyped-call]
    return None


def _batches(loaded: Any) -> Iterator[tuple[Tensor, Tensor]]:
    from slimnet.data import Batches, stratified_indices

    chosen = stratified_indices(loaded.train.labels, min(CALIBRATION_IMAGES, len(loaded.train)), torch.Generator().manual_seed(0))
    return Batches(loaded.train.subset(chosen), 100, mean=loaded.mean, std=loaded.std).epoch(0)
