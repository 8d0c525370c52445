"""What can be wrong with a bundle, found without running it and without torch: each function gives a line for each fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slimnet.bundle import manifest, seal
from slimnet.errors import FileFormatError
from slimnet.export.parity import ParityReport
from slimnet.files import read_json
from slimnet.files.untrusted import holds, member, refuse_links
from slimnet.measure.cost import Cost
from slimnet.onnx import metadata

Model = Mapping[str, Any]
AGAIN = "export the bundle again"


def read_manifest(folder: Path) -> dict[str, Any]:
    """``model.json`` of a bundle.

    Raises:
        FileFormatError: if the folder is none, or holds a link; or the file is missing, not JSON, or of another format or schema.
    """
    if not folder.is_dir():
        reason = "is not a folder" if folder.exists() else "does not exist"
        raise FileFormatError(f"{folder} {reason}: give a bundle that `slimnet export` has written.")
    path = folder / seal.MANIFEST
    refuse_links(folder)
    if not holds(folder, seal.MANIFEST):
        raise FileFormatError(f"{folder} is not a bundle: it holds no model.json. `slimnet export` makes one from a run.")
    model = read_json(path)
    found, wanted = f"{model.get('format')} {model.get('schema')}", f"{manifest.FORMAT} {manifest.SCHEMA}"
    if found != wanted:
        raise FileFormatError(f"{path} is {found}, not {wanted}: {AGAIN}.")
    return model


def read_report(folder: Path) -> tuple[dict[str, Any], ParityReport, dict[str, Cost]]:
    """``report.json`` of a bundle: its contents, the parity of the slim network, and the costs of ``dense`` and ``slim``.

    Raises:
        FileFormatError: if it is missing, not JSON, or lacks something.
    """
    report = read_json(member(folder, "report.json"), "report")
    try:
        parity = ParityReport.from_dict(report["parity"]["slim"])
        costs = {name: Cost.from_dict(report["cost"][name]) for name in ("dense", "slim")}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{folder / 'report.json'} lacks or garbles {error}: {AGAIN}.") from None
    return report, parity, costs


def file_faults(folder: Path, model: Model, *, installed: bool = False) -> Iterator[str]:
    """Files that are missing, were changed, or are not listed (``installed``: see :func:`slimnet.bundle.seal.unlisted`)."""
    yield from seal.faults(folder, model)
    for name in seal.unlisted(folder, model, installed=installed):
        yield f"{folder / name} is not listed in model.json: it is no part of the bundle, take it out."


def label_faults(folder: Path, model: Model) -> Iterator[str]:
    """Labels that do not name every output."""
    shape, labels = model["outputs"][0]["shape"], model["labels"]
    if len(shape) < 2 or shape[1] != len(labels):
        yield f"{folder / 'model.json'} has {len(labels)} labels, but the network's output is {shape}: {AGAIN}."


def report_faults(folder: Path, model: Model) -> Iterator[str]:
    """Figures of ``model.json`` that ``report.json`` does not bear out."""
    try:
        report, _, costs = read_report(folder)
    except FileFormatError as error:
        yield str(error)
        return
    if report.get("accuracy") != model["accuracy"]:
        yield f"{folder / 'model.json'} claims another accuracy than report.json: {AGAIN}."
    if manifest.cost_summary(costs["dense"], costs["slim"]) != model["cost"]:
        yield f"{folder / 'model.json'} claims another cost than report.json: {AGAIN}."


def onnx_faults(folder: Path, model: Model) -> Iterator[str]:
    """ONNX files that are not valid, or say something else of themselves than ``model.json``; changed files are passed over."""
    wanted = metadata.described(model)
    for name, entry in _networks(model).items():
        path = folder / name
        if not seal.is_intact(folder, name, model):
            continue
        data = path.read_bytes()
        try:
            proto = metadata.parse(data, str(path))
        except FileFormatError as error:
            yield str(error)
            continue
        found = metadata.interface(proto)
        for key in ("opset", "inputs", "outputs"):
            if key in entry and found[key] != entry[key]:
                yield f"{path} has {key} {found[key]}, model.json says {entry[key]}: {AGAIN}."
        if "bytes" in entry and len(data) != entry["bytes"]:
            yield f"{path} has {len(data)} bytes, `precisions` of model.json says {entry['bytes']}: {AGAIN}."
        told = metadata.metadata(proto)
        expected = {key: value for key, value in wanted.items() if key in told or key not in metadata.MAY_LACK}
        if told != expected:
            different = sorted(key for key, _ in set(told.items()) ^ set(expected.items()))
            yield f"{path} says something else in its metadata than model.json: {', '.join(dict.fromkeys(different))}; {AGAIN}."


def _networks(model: Model) -> dict[str, dict[str, Any]]:
    """ONNX file → what it must say of itself."""
    values = {key: model[key] for key in ("inputs", "outputs")}
    native = {"opset": model["opset"], **values}
    compact = manifest.is_compact(model)
    precisions = {
        entry["file"]: {**(native if name == "fp32" or compact else values), "bytes": entry["bytes"]}
        for name, entry in model["precisions"].items()
    }
    dense = {} if compact else {"dense.onnx": native}
    embedded = {model["embedded"]["file"]: model["embedded"]} if "embedded" in model else {}
    return {**precisions, **dense, **embedded}
