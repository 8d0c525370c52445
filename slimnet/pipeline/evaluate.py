"""A run, a bundle or an ONNX file, and a data set, in; an evaluation out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet._say import Say, silent
from slimnet.errors import ArgumentError, DataError, FileFormatError
from slimnet.pipeline.data import load_run_data
from slimnet.pipeline.rebuild import load_slim

if TYPE_CHECKING:
    from torch import nn

    from slimnet.models import Trust
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
    trust_code: Trust = False,
    say: Say = silent,
) -> tuple[Evaluation, tuple[str, ...]]:
    """Evaluate a run, the slim network of a bundle, or an ONNX file.

    Args:
        what: a run directory, a bundle, or an ONNX file.
        split: ``"train"``, ``"val"`` or ``"test"``.
        data: name of the data set; default: the one the network was trained on (an ONNX file alone does not know it).
        data_dir: where the data set lies.
        batch_size: images at a time.
        views: average the answers over views of each image (see `slimnet.training.evaluate`).
        trust_code: let a factory of the user's own that ``config.json`` names build the network (see `slimnet.models.trust`).
        say: told, in a line, how classes were matched.

    Returns:
        The evaluation, and the names of the classes.

    Raises:
        ArgumentError: if the data set is not known.
        FileFormatError: if ``what`` is none of these, or corrupt.
        DataError: if the data set is missing or does not fit the network: other classes, by name, or other images.
        ModelError: if a factory is to build the network that is not trusted.
    """
    from slimnet.training import evaluate

    model, settings, recorded = _subject(Path(what), data, trust_code)
    loaded = load_run_data(settings, data=data, data_dir=data_dir, recorded=recorded, who=str(what))
    for note in loaded.notes[-1:] if loaded.notes and "matched by name" in loaded.notes[-1] else ():
        say(note)
    chosen = {"train": loaded.train, "val": loaded.val, "test": loaded.test}[split]
    result = evaluate(model, chosen, mean=loaded.mean, std=loaded.std, batch_size=batch_size, views=views)
    if len(result.per_class) != len(loaded.classes):
        raise DataError(f"{what} has {len(result.per_class)} outputs, {loaded.name} has {len(loaded.classes)} classes.")
    if not recorded.get("classes"):
        say(f"{what} does not name its classes: its outputs are taken in the order of {loaded.name}")
    return result, loaded.classes


def _subject(path: Path, data: str | None, trust_code: Trust) -> tuple[nn.Module | Path, Mapping[str, Any], dict[str, Any]]:
    """What is to be evaluated, the settings of its data, and what is known of its training: classes, mean, deviation."""
    from slimnet._files import read_json
    from slimnet._folder import holds, member, refuse_links
    from slimnet.export import read_bundle
    from slimnet.training import Run

    if not path.exists():
        raise FileFormatError(f"{path} does not exist: give a run, a bundle, or an ONNX file.")
    if not path.is_dir():
        if path.suffix != ".onnx":
            raise FileFormatError(f"{path} is neither a run, a bundle, nor an ONNX file (.onnx).")
        if data is None:
            raise ArgumentError(f"{path} does not know its data set: name it with --data.")
        return path, {}, {}
    refuse_links(path)
    if holds(path, "plan.json") or holds(path, "model.json"):
        bundle = read_bundle(path) if holds(path, "model.json") else None  # its files are the ones that were exported
        file = member(path, "config.json")
        config = read_json(file)
        network = bundle.onnx if bundle is not None and bundle.is_compact else load_slim(path, trust_code=trust_code)
        recorded = _statistics(config, file)
        return network, config, recorded | ({"classes": bundle.model["labels"]} if bundle is not None else {})
    if not holds(path, "config.json"):
        raise FileFormatError(f"{path} is neither a run nor a bundle: it holds no config.json.")
    run = Run.open(path, trust_code=trust_code)
    return run.load_model(), run.config.as_dict(), run.data


def _statistics(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    if config.get("mean") is None or config.get("std") is None:
        return {}
    try:
        return {name: tuple(map(float, config[name])) for name in ("mean", "std")}
    except (TypeError, ValueError):
        raise FileFormatError(f"{file}: `mean` and `std` must be lists of numbers.") from None
