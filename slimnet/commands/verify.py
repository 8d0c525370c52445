"""A bundle in, what is wrong with it out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimnet.bundle import manifest
from slimnet.bundle.manifest import format_files, is_compact
from slimnet.errors import FileFormatError, SlimnetError, whole_text
from slimnet.files.untrusted import member
from slimnet.runtimes.formats import FORMATS, missing

if TYPE_CHECKING:
    from torch import Tensor

    from slimnet.models import Trust

CHECKS = ("model.json", "files", "schema", "labels", "report", "onnx", "parity", "precisions")
ALIKE = 0.5
"""The least correlation of another precision's logits with fp32's on random input; that of another network is near 0."""
_SAMPLES = 16
_MOST_VALUES = 1 << 26
"""Of one image of a folder that is no bundle."""


@dataclass(frozen=True)
class VerifyReport:
    """What was looked at in a bundle, and what is wrong with it.

    Attributes:
        path: the bundle.
        checks: name of each check that was made → the faults that it found, a line each.
        figures: what was measured: name → value.
        notes: what could not be looked at, and why: a line each.
    """

    path: Path
    checks: dict[str, tuple[str, ...]]
    figures: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(fault for found in self.checks.values() for fault in found)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    @property
    def skipped(self) -> tuple[str, ...]:
        """Checks that were not asked for, or that had nothing to go by after what others found."""
        return tuple(name for name in CHECKS if name not in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "path": str(self.path),
            "passed": self.passed,
            "faults": list(self.faults),
            "checks": {name: not found for name, found in self.checks.items()},
            "skipped": list(self.skipped),
            "figures": self.figures,
            **({"notes": list(self.notes)} if self.notes else {}),
        }


def verify_bundle(path: Path | str, *, parity: bool = True, trust_code: Trust = False) -> VerifyReport:
    """Look for everything that may be wrong with a bundle: damage, not malice, since nothing is signed.

    A folder that ``slimnet slim`` wrote is no bundle, and has less to look at: its ONNX file against its network.

    Args:
        path: the bundle, or a folder with ``slim.safetensors``, ``plan.json``, ``config.json`` and ``model.onnx``.
        parity: also build the slim network again in PyTorch and compare ``model.onnx`` with it on random input, and run every
            other ONNX file. Without it torch is not needed. A compact bundle holds nothing to build it from: its network is
            only run.
        trust_code: let the network be built by a factory of the user's own that ``config.json`` names (see
            `slimnet.models.trust`). Without it, such a bundle has the fault that its parity cannot be checked.

    Returns:
        The report; where all is well it has no ``faults``.

    Raises:
        FileFormatError: if the folder is no bundle: it is missing, or holds no ``model.json``.
    """
    from slimnet.bundle import check
    from slimnet.bundle.schema import schema_faults
    from slimnet.ready import is_ready

    folder, checks, figures = Path(path), dict[str, tuple[str, ...]](), dict[str, float]()
    try:
        model = check.read_manifest(folder)
    except FileFormatError as error:
        if not (folder / "model.json").is_file():  # no bundle at all
            if not all((folder / name).is_file() for name in ("plan.json", "slim.safetensors")):
                raise
            if not (folder / "model.onnx").is_file():
                missing_file = f"{folder} holds no model.onnx to be verified: the network was not exported (report.json)."
                raise FileFormatError(missing_file) from None
            found = tuple(_collected(_slim_faults(folder, figures, trust_code))) if parity else ()
            return VerifyReport(folder, {"parity": found} if parity else {}, figures)
        return VerifyReport(folder, {"model.json": (str(error),)}, figures)
    checks["model.json"] = ()
    checks["files"] = tuple(_collected(check.file_faults(folder, model, installed=is_ready(folder))))
    checks["schema"] = tuple(f"{folder / 'model.json'} breaks its schema at {fault}" for fault in schema_faults(model))
    if not checks["schema"]:
        checks["labels"] = tuple(check.label_faults(folder, model))
        checks["report"] = tuple(check.report_faults(folder, model))
        checks["onnx"] = tuple(_collected(check.onnx_faults(folder, model)))
    if parity and not any(checks.get(name, ("unknown",)) for name in ("files", "onnx")):
        if not is_compact(model):
            checks["parity"] = tuple(_collected(_parity_faults(folder, model, figures, trust_code)))
        checks["precisions"] = tuple(_collected(_precision_faults(folder, model, figures)))
        if "formats" in model:
            checks["formats"] = tuple(_format_faults(folder, model, figures))
    return VerifyReport(folder, checks, figures, tuple(_format_notes(model)) if "formats" in checks else ())


def _collected(faults: Iterator[str]) -> Iterator[str]:
    """The faults, and as the last of them the error that ended the search."""
    try:
        yield from faults
    except SlimnetError as error:
        yield whole_text(error)


def _parity_faults(folder: Path, model: Mapping[str, Any], figures: dict[str, float], trust_code: Trust) -> Iterator[str]:
    """``model.onnx`` computes something else than the network of ``config.json``, ``plan.json`` and ``slim.safetensors``."""
    rule = model["preprocessing"]
    yield from _onnx_faults(folder, (rule["channels"], *rule["size"]), figures, trust_code)


def _slim_faults(folder: Path, figures: dict[str, float], trust_code: Trust) -> Iterator[str]:
    """The same of a folder that says the shape of its input in ``config.json``."""
    from slimnet.files import read_json

    file = member(folder, "config.json")
    shape = read_json(file, "network").get("image_shape")
    if shape is None or math.prod(shape) > _MOST_VALUES:
        yield f"{file} does not say what images the network takes: `image_shape` is {shape}."
    else:
        yield from _onnx_faults(folder, tuple(shape), figures, trust_code, read_json(file, "network").get("part"))


def _onnx_faults(
    folder: Path, shape: tuple[int, ...], figures: dict[str, float], trust_code: Trust, part: str | None = None
) -> Iterator[str]:
    from slimnet.commands.opening import open_part
    from slimnet.commands.rebuild import load_slim
    from slimnet.export.gate import Examples, check_onnx
    from slimnet.export.parity import ONNX_MODEL

    file = member(folder, "model.onnx")
    small, example = open_part(load_slim(folder, trust_code=trust_code), _random(shape, 1), part)
    report = check_onnx(file.read_bytes(), {ONNX_MODEL: small}, Examples.of(example), name=str(file))
    figures["parity"] = report.worst.relative
    if not report.passed:
        yield f"{file} computes something else than slim.safetensors: {report.worst}."


def _precision_faults(folder: Path, model: Mapping[str, Any], figures: dict[str, float]) -> Iterator[str]:
    """An ONNX file that does not run, or has little to do with ``model.onnx``."""
    from slimnet.export.embed import check_embedded
    from slimnet.export.gate import onnx_run

    rule = model["preprocessing"]
    inputs = _random((rule["channels"], *rule["size"]), _SAMPLES)
    files = {name: member(folder, file) for name, file in _files(model).items()}
    logits = {name: onnx_run(file.read_bytes(), str(file))((inputs,)) for name, file in files.items()}
    for name, file in _files(model).items():
        if logits[name].shape != (_SAMPLES, len(model["labels"])) or not bool(logits[name].isfinite().all()):
            yield f"{folder / file} does not give finite logits of {len(model['labels'])} classes on random input."
        elif name not in ("fp32", "dense") and not is_compact(model):
            alike = _correlation(logits["fp32"], logits[name])
            figures[f"correlation of {name}"] = alike
            if alike < ALIKE:
                yield f"{folder / file} is unlike model.onnx: correlation {alike:.2f} on random input, at least {ALIKE} expected."
    if "embedded" in model:
        embedded = member(folder, model["embedded"]["file"])
        plain, temperature = member(folder, "model.onnx").read_bytes(), manifest.temperature(model, "fp32")
        report = check_embedded(plain, embedded.read_bytes(), model["preprocessing"], None, temperature=temperature)
        figures["parity of embedded"] = report.worst.relative
        if not report.passed:
            yield f"{embedded} computes something else than model.onnx: {report.worst}."


def _format_faults(folder: Path, model: Mapping[str, Any], figures: dict[str, float]) -> Iterator[str]:
    """What another runtime reads does not run there, or is not what ``model.onnx`` is; missing runtimes are passed over."""
    from slimnet.export.gate import onnx_run

    rule = model["preprocessing"]
    inputs = _random((rule["channels"], *rule["size"]), _SAMPLES)
    plain = member(folder, "model.onnx")
    logits = onnx_run(plain.read_bytes(), str(plain))((inputs,))
    for (name, precision), files in format_files(model).items():
        if missing(FORMATS[name]) is None:
            paths = [member(folder, file) for file in files]
            yield from _collected(_unlike(FORMATS[name].runtime, precision, paths, (inputs, logits), figures))


def _unlike(
    runtime: str, precision: str, paths: list[Path], right: tuple[Tensor, Tensor], figures: dict[str, float]
) -> Iterator[str]:
    """fp32 gives other logits (N, classes) for the inputs; another precision gives some that are unlike."""
    import torch

    from slimnet.export.parity import RUNTIME_TOLERANCE, compare
    from slimnet.runtimes.files import classifier

    inputs, logits = right
    network = classifier(runtime, paths, inputs.shape[1:])
    found = torch.from_numpy(network.run(inputs.numpy()))
    if found.shape != logits.shape or not bool(found.isfinite().all()):
        yield f"{paths[0]} does not give finite logits of {logits.shape[1]} classes on random input."
    elif precision == "fp32":
        pair = f"{runtime} vs onnx"
        (check,) = compare(lambda _: logits, lambda _: found, [("random", (inputs,))], pair=pair, tolerance=RUNTIME_TOLERANCE)
        figures[f"parity of {runtime}"] = check.relative
        if not check.passed:
            yield f"{paths[0]} computes something else than model.onnx: {check}."
    else:
        figures[f"correlation of {runtime} {precision}"] = alike = _correlation(logits, found)
        if alike < ALIKE:
            yield f"{paths[0]} is unlike model.onnx: correlation {alike:.2f} on random input, at least {ALIKE} expected."


def _format_notes(model: Mapping[str, Any]) -> Iterator[str]:
    """Formats whose runtime is not installed."""
    for name in model["formats"]:
        line = missing(FORMATS[name])
        if line is not None:
            yield f"{name} was not looked at: {line}"


def _correlation(one: Tensor, other: Tensor) -> float:
    """Of the logits (N, classes) of each input, the mean."""
    from torch.nn.functional import cosine_similarity

    a, b = (x.double() - x.double().mean(1, keepdim=True) for x in (one, other))
    return float(cosine_similarity(a, b).mean())


def _files(model: Mapping[str, Any]) -> dict[str, str]:
    files = {name: entry["file"] for name, entry in model["precisions"].items()}
    return files if is_compact(model) else {**files, "dense": "dense.onnx"}


def _random(shape: tuple[int, ...], count: int) -> Tensor:
    """Random input (count, C, H, W), the same every time."""
    import torch

    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
