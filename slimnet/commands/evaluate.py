"""A run, a bundle or an ONNX file, and a data set, in; an evaluation out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.commands.rebuild import load_slim
from slimnet.errors import ArgumentError, DataError, FileFormatError
from slimnet.known import is_onnx
from slimnet.progress import Say, say_from

if TYPE_CHECKING:
    from torch import nn

    from slimnet.models import Trust
    from slimnet.names import Views
    from slimnet.training import Evaluation

_say = say_from(__name__)


def evaluate_any(
    what: Path | str,
    *,
    split: str = "test",
    data: str | None = None,
    data_dir: str | None = None,
    data_options: Mapping[str, bool] | None = None,
    batch_size: int = 256,
    views: Views = "one",
    trust_code: Trust = False,
    say: Say = _say,
) -> tuple[Evaluation, tuple[str, ...]]:
    """Evaluate a run, the slim network of a bundle, or an ONNX file.

    The classes of the data are matched with those of the network by name, in whatever order they are. Data that lacks some of
    the network's classes will do: an answer of such a class is wrong. Data with others will not. Where nobody knows the names of
    the network's outputs, as many classes as outputs are taken to be in its order.

    Args:
        what: a run directory, a bundle, or an ONNX file.
        split: ``"train"``, ``"val"`` or ``"test"``.
        data: name of the data set; default: the one the network was trained on (an ONNX file alone does not know it).
        data_dir: where the data set lies.
        data_options: options of the data set's own (see `slimnet.data.load_data`); of the one that the network was trained on, in
            place of those of its training. Soft labels are not looked at.
        batch_size: images at a time.
        views: average the answers over views of each image (see `slimnet.training.evaluate`).
        trust_code: let a factory of the user's own that ``config.json`` names build the network (see `slimnet.models.trust`).
        say: told, in a line, where the classes are in another order, or only their number could be compared.

    Returns:
        The evaluation, and the names of the classes, in the order of the network's outputs.

    Raises:
        ArgumentError: if the data set is not known.
        FileFormatError: if ``what`` is none of these, or corrupt.
        DataError: if the data set is missing or does not fit the network.
        ModelError: if a factory is to build the network that is not trusted.
    """
    from slimnet.data import match_classes, match_count
    from slimnet.data.listing import NO_TEST
    from slimnet.training import evaluate
    from slimnet.training.data import load_data_of

    subject = _subject(Path(what), data, trust_code)
    where: dict[str, Any] = {"data": data, "data_dir": data_dir, "data_options": data_options, "folder": subject.folder}
    loaded = load_data_of(subject.settings, **where, soft=False)
    mean, std = subject.statistics or (loaded.mean, loaded.std)
    if len(mean) != len(loaded.mean):
        raise DataError(f"{what} takes images of {len(mean)} channels, those of {loaded.name} have {len(loaded.mean)}.")
    chosen, classes, note = {"train": loaded.train, "val": loaded.val, "test": loaded.test}[split], loaded.classes, ""
    if subject.classes is not None:
        match = match_classes(subject.classes, loaded.classes, who=str(what), whose=loaded.name, hint=_HINTS.get(loaded.name, ""))
        chosen, classes, note = match.split(chosen), match.classes, match.note
    how: dict[str, Any] = {"batch_size": batch_size, "views": views, "temperature": subject.temperature}
    result = evaluate(subject.network, chosen, mean=mean, std=std, **how)
    if subject.classes is None:
        note = match_count(len(result.per_class), classes, who=str(what), whose=loaded.name)
    elif len(result.per_class) != len(classes):
        raise FileFormatError(f"{what} has {len(result.per_class)} outputs, and names {len(classes)} classes.")
    for line in (note, NO_TEST if split == "test" != loaded.tested_on else ""):
        if line:
            say(line)
    return replace(result, split=loaded.tested_on if split == "test" else split), classes


Statistics = tuple[tuple[float, ...], tuple[float, ...]]
_HINTS = {"ferplus": "--without-contempt (`data_options`) leaves contempt out"}


@dataclass(frozen=True)
class _Subject:
    """What is to be evaluated.

    Attributes:
        network: the network, or an ONNX file.
        classes: names of its outputs; None where nobody knows them.
        settings: of the data that it was trained on.
        statistics: the mean and deviation that it was trained with.
        folder: of the run.
        temperature: what its logits are divided by for probabilities.
    """

    network: nn.Module | Path
    classes: tuple[str, ...] | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    statistics: Statistics | None = None
    folder: Path | None = None
    temperature: float = 1.0


def _subject(path: Path, data: str | None, trust_code: Trust) -> _Subject:
    from slimnet.data import recorded_classes
    from slimnet.export import onnx_labels, onnx_statistics, read_bundle
    from slimnet.files import read_json
    from slimnet.files.untrusted import holds, member, refuse_links
    from slimnet.training import Run

    if not path.exists():
        raise FileFormatError(f"{path} does not exist: give a run, a bundle, or an ONNX file.")
    if not path.is_dir():
        if not is_onnx(path):
            raise FileFormatError(f"{path} is neither a run, a bundle, nor an ONNX file (.onnx).")
        if data is None:
            raise ArgumentError(f"{path} does not know its data set: name it with --data.")
        return _Subject(path, onnx_labels(path), statistics=onnx_statistics(path))
    refuse_links(path)
    if holds(path, "plan.json") or holds(path, "model.json"):
        bundle = read_bundle(path) if holds(path, "model.json") else None  # its files are the ones that were exported
        file = member(path, "config.json")
        config = read_json(file, "network")
        network = bundle.onnx if bundle is not None and bundle.is_compact else load_slim(path, trust_code=trust_code)
        names = recorded_classes(file) if bundle is None else tuple(map(str, bundle.model["labels"]))
        temperature = 1.0 if bundle is None else bundle.temperature(next(iter(bundle.precision_files)))
        return _Subject(network, names, config, _statistics(config), temperature=temperature)
    if not holds(path, "config.json"):
        raise FileFormatError(f"{path} is neither a run nor a bundle: it holds no config.json.")
    run = Run.open(path, trust_code=trust_code)
    return _Subject(run.load_model(), run.classes, run.config.as_dict(), (run.mean, run.std), run.path)


def _statistics(config: Mapping[str, Any]) -> Statistics | None:
    if config.get("mean") is None or config.get("std") is None:
        return None
    return tuple(map(float, config["mean"])), tuple(map(float, config["std"]))
