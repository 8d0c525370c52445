"""A run, a bundle or an ONNX file, and a data set, in; an evaluation out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.errors import ArgumentError, DataError, FileFormatError
from slimnet.pipeline.data import load_run_data
from slimnet.pipeline.rebuild import load_slim

if TYPE_CHECKING:
    from torch import nn

    from slimnet.training import Evaluation
    from slimnet.training.views import Views


def evaluate_any(
    what: Path | str,
    *,
    split: str = "test",
    data: str | None = None,
    data_dir: str | None = None,
    batch_size: int = 256,
    views: Views = "one",
) -> tuple[Evaluation, tuple[str, ...]]:
    """Evaluate a run, the slim network of a bundle, or an ONNX file.

    Args:
        what: a run directory, a bundle, or an ONNX file.
        split: ``"train"``, ``"val"`` or ``"test"``.
        data: name of the data set; default: the one the network was trained on (an ONNX file alone does not know it).
        data_dir: where the data set lies.
        batch_size: images at a time.
        views: average the answers over views of each image (see `slimnet.training.evaluate`).

    Returns:
        The evaluation, and the names of the classes.

    Raises:
        ArgumentError: if the data set is not known.
        FileFormatError: if ``what`` is none of these, or corrupt.
        DataError: if the data set is missing or does not fit the network.
    """
    from slimnet.training import evaluate

    model, settings, statistics = _subject(Path(what), data)
    loaded = load_run_data(settings, data=data, data_dir=data_dir)
    mean, std = statistics or (loaded.mean, loaded.std)
    if len(mean) != len(loaded.mean):
        raise DataError(f"{what} takes images of {len(mean)} channels, those of {loaded.name} have {len(loaded.mean)}.")
    chosen = {"train": loaded.train, "val": loaded.val, "test": loaded.test}[split]
    result = evaluate(model, chosen, mean=mean, std=std, batch_size=batch_size, views=views)
    if len(result.per_class) != len(loaded.classes):
        raise DataError(f"{what} has {len(result.per_class)} outputs, {loaded.name} has {len(loaded.classes)} classes.")
    return result, loaded.classes


Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def _subject(path: Path, data: str | None) -> tuple[nn.Module | Path, Mapping[str, Any], Statistics | None]:
    """What is to be evaluated, the settings of its data, and the mean and deviation that it was trained with."""
    from slimnet._files import read_json
    from slimnet.export import read_bundle
    from slimnet.training import Run

    if not path.exists():
        raise FileFormatError(f"{path} does not exist: give a run, a bundle, or an ONNX file.")
    if not path.is_dir():
        if path.suffix != ".onnx":
            raise FileFormatError(f"{path} is neither a run, a bundle, nor an ONNX file (.onnx).")
        if data is None:
            raise ArgumentError(f"{path} does not know its data set: name it with --data.")
        return path, {}, None
    if (path / "plan.json").is_file() or (path / "model.json").is_file():
        bundle = read_bundle(path) if (path / "model.json").is_file() else None  # its files are the ones that were exported
        config = read_json(path / "config.json", "network")
        network = bundle.onnx if bundle is not None and bundle.is_compact else load_slim(path)
        return network, config, _statistics(config)
    if not (path / "config.json").is_file():
        raise FileFormatError(f"{path} is neither a run nor a bundle: it holds no config.json.")
    run = Run.open(path)
    return run.load_model(), run.config.as_dict(), (run.mean, run.std)


def _statistics(config: Mapping[str, Any]) -> Statistics | None:
    if config.get("mean") is None or config.get("std") is None:
        return None
    return tuple(map(float, config["mean"])), tuple(map(float, config["std"]))
