"""The data set that a run was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.errors import ArgumentError

if TYPE_CHECKING:
    from slimnet.data import Dataset


DATA_SETTINGS = ("data", "data_dir", "image_size", "val_fraction", "seed", "normalise", "data_options", "train_fraction")


def load_run_data(
    settings: Mapping[str, Any],
    *,
    data: str | None = None,
    data_dir: Path | str | None = None,
    recorded: Mapping[str, Any] | None = None,
    who: str = "the network",
) -> Dataset:
    """The data set of a run with the same splits; or another one, or the same at another place.

    Args:
        settings: of the run, or of a bundle.
        data: name of another data set.
        data_dir: another place.
        recorded: classes, mean and deviation of the training, as far as they are known: the classes are brought into this order.
        who: the network, for errors.

    Raises:
        ArgumentError: if no data set is known.
        DataError: if it is missing, or has other classes or channels than were recorded.
    """
    from slimnet.data import load_data
    from slimnet.training.inputs import as_recorded

    had = {name: settings[name] for name in DATA_SETTINGS if settings.get(name) is not None}
    name = data or had.get("data")
    if not isinstance(name, str):
        raise ArgumentError("the data set is not known: name it with --data.")
    if name != had.pop("data", name):
        had = {key: value for key, value in had.items() if key == "image_size"}
    if data_dir is not None:
        had["data_dir"] = data_dir
    loaded = load_data(name, **{key: value for key, value in had.items() if key != "data"})
    return as_recorded(loaded, recorded or {}, who=who)
