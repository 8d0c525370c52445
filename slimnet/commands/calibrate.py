"""A bundle and data in, the same bundle with calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.bundle import manifest, seal
from slimnet.commands.confidence import ConfidenceStep
from slimnet.errors import ArgumentError, DataError
from slimnet.files import atomic_folder, check_output, json_bytes, read_json
from slimnet.files.untrusted import member
from slimnet.progress import Say, say_from

if TYPE_CHECKING:
    from slimnet.data import Dataset
    from slimnet.export import Bundle

_say = say_from(__name__)


def calibrate_bundle(
    bundle: Path | str,
    out: Path | str | None = None,
    *,
    data: str | None = None,
    data_dir: Path | str | None = None,
    unsure_below: float | None = None,
    force: bool = False,
    say: Say = _say,
) -> Bundle:
    """Fit a temperature for each network of a bundle on the validation split, and say in the bundle how well it does.

    For bundles that were exported before slimnet did so, or for other data. What changes: ``model.json`` with the checksums,
    ``MODEL_CARD.md``, what the card says of the data, ``infer.py``, which must know of the temperature, and ``model.uint8.onnx``,
    which gives probabilities. The networks stay as they are, byte for byte, and so do their answers.

    Args:
        bundle: folder of a bundle.
        out: folder to write; default: the bundle itself, which is replaced at one stroke.
        data: name of the data set; default: the one that the network was trained on.
        data_dir: where it lies now.
        unsure_below: an answer that is less probable counts as unsure, unless the user says otherwise; default: as the bundle
            has it.
        force: replace an existing bundle in ``out``.
        say: told what is being done.

    Returns:
        The bundle as written.

    Raises:
        ArgumentError: if ``unsure_below`` is no probability; if ``out`` holds something and ``force`` is not set, or anything but
            a bundle; or if it would be the bundle that slimnet ships.
        FileFormatError: if the bundle is none, or one of its files was changed.
        DataError: if the data is missing, or does not have the network's classes or the size of its input.
    """
    from slimnet.bundle.bundle import read_bundle
    from slimnet.bundle.card import model_card
    from slimnet.bundle.write import INFER
    from slimnet.ready import is_ready

    source = read_bundle(bundle)
    manifest.check_threshold(unsure_below)
    if out is None and is_ready(source.path):
        raise ArgumentError(f"{source.path} is part of slimnet: name another folder with --out.")
    target = source.path if out is None else Path(out)
    check_output(target, force=force or out is None, ours=manifest.KNOWN_FILES)
    config = read_json(member(source.path, "config.json"), "network")
    loaded = _data(source, config, data, data_dir, say)
    model, files = _judged(source, ConfidenceStep(loaded, say))
    if unsure_below is not None:
        model["unsure_below"] = unsure_below
    report = _with_limits(source.report, loaded.name, config)
    files |= {"MODEL_CARD.md": model_card(model, report, config).encode(), "report.json": json_bytes(report)}
    if seal.lists("infer.py", source.model):
        files["infer.py"] = INFER.read_bytes()
    with atomic_folder(target, force=force or out is None, ours=manifest.KNOWN_FILES) as folder:
        for name in source.model["files"]:
            (folder / name).write_bytes(files.get(name) or seal.verified(source.path, name, source.model))
        (folder / "MODEL_CARD.md").write_bytes(files["MODEL_CARD.md"])
        (folder / seal.MANIFEST).write_bytes(seal.sealed({**model, "files": seal.file_entries(folder)}))
    return read_bundle(target)


def _data(bundle: Bundle, config: Mapping[str, Any], data: str | None, data_dir: Path | str | None, say: Say) -> Dataset:
    """The data, with classes and normalisation as the network has them."""
    from slimnet.data import match_classes
    from slimnet.training.data import load_data_of

    loaded = load_data_of(config, data=data, data_dir=data_dir, soft=False)
    rule, labels = bundle.model["preprocessing"], tuple(map(str, bundle.model["labels"]))
    wanted = (rule["channels"], *rule["size"])
    if loaded.image_shape != wanted:
        raise DataError(f"{loaded.name} has images of {loaded.image_shape} (C, H, W), {bundle.path} takes {wanted}.")
    match = match_classes(labels, loaded.classes, who=str(bundle.path), whose=loaded.name, whole=True)
    if match.note:
        say(match.note)
    return replace(match.dataset(loaded), mean=tuple(rule["mean"]), std=tuple(rule["std"]))


def _judged(bundle: Bundle, judge: ConfidenceStep) -> tuple[dict[str, Any], dict[str, bytes]]:
    """``model.json`` with what was found of each network, and ``model.uint8.onnx`` anew, if there is one."""
    from slimnet.bundle.write import embedded

    networks = {name: seal.verified(bundle.path, file.name, bundle.model) for name, file in bundle.precision_files.items()}
    precisions = {}
    for name, data in networks.items():
        about = {key: value for key, value in bundle.model["precisions"][name].items() if key != "confidence"}
        found = judge(name, data)
        precisions[name] = about if found is None else {**about, "confidence": found}
    model, files = {**bundle.model, "precisions": precisions}, dict[str, bytes]()
    if "embedded" in model:
        files["model.uint8.onnx"], model["embedded"] = embedded(networks["fp32"], model, None)
    return model, files


def _with_limits(report: Mapping[str, Any], name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """``report.json`` with what slimnet says of the data today, where the network was trained on the same."""
    from slimnet.data.about import about

    told = report.get("data") or {}
    if told.get("name") != name:
        return dict(report)
    said = about(name, config.get("data_options"))
    return {**report, "data": {**told, "terms": said.terms, "limits": list(said.limits)}}
