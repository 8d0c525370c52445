"""``model.json``: what a deployer needs to use the network, and to know that the files are the right ones."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from slimnet import names
from slimnet.errors import ArgumentError
from slimnet.measure.cost import Cost
from slimnet.runtimes import FORMATS

FORMAT = "slimnet-bundle"
SCHEMA = 2

PRECISIONS = {name: "model.onnx" if name == "fp32" else f"model.{name}.onnx" for name in names.PRECISIONS}
"""What the network may be stored in, and the file that it is then in; a bundle always holds the first, a compact one any."""

DESCRIBED = ("config.json", "report.json")
"""What every bundle holds beside ``model.json``."""

REQUIRED = ("model.onnx", "dense.onnx", "slim.safetensors", "plan.json", *DESCRIBED)
"""What a bundle holds that is not compact."""

OPTIONAL = (*(file for name, file in PRECISIONS.items() if name != "fp32"), "model.uint8.onnx", "MODEL_CARD.md", "infer.py")
"""What a bundle may hold."""

ALL_FILES = (*REQUIRED, *OPTIONAL, "model.json")
"""Every name that may stand in a bundle, but for what other runtimes read."""

FORMAT_FILES = tuple(file for form in FORMATS.values() for precision in form.precisions for file in form.files(precision))
"""What other runtimes read."""

KNOWN_FILES = (*ALL_FILES, *FORMAT_FILES)
"""Every name that may stand in a bundle."""

INITIAL_WEIGHTS = "initial weights"
"""What ``dense_source`` of ``report.json`` says where the baseline is what training began with."""

_PACKAGES = ("slimnet", "torch", "onnx", "onnxruntime", "onnxscript", "numpy")


def is_compact(model: Mapping[str, Any]) -> bool:
    """Whether ``model.json`` is of a bundle with a single network, and nothing to build it from or compare it with."""
    return model.get("compact") is True


def required(model: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that a bundle with this ``model.json`` must hold."""
    return DESCRIBED if is_compact(model) else REQUIRED


def check_labels(labels: Sequence[str], output_shape: Sequence[int | str]) -> None:
    """Refuse labels that do not name every output.

    Raises:
        ArgumentError: if their number is not that of the logits in ``output_shape``, (batch, C).
    """
    if len(output_shape) < 2 or output_shape[1] != len(labels):
        raise ArgumentError(f"`labels` names {len(labels)} classes, but the network's output is {[*output_shape]}.")


def check_input(preprocessing: Mapping[str, Any], shapes: Sequence[Sequence[int]]) -> None:
    """Refuse preprocessing that gives another shape than the network takes.

    Raises:
        ArgumentError: if the shape of the one input is not (N, C, H, W).
    """
    wanted = [preprocessing["channels"], *preprocessing["size"]]
    if len(shapes) != 1 or list(shapes[0][1:]) != wanted:
        raise ArgumentError(f"`preprocessing` gives pictures of {wanted} (C, H, W), but the network's inputs are {shapes}.")


def check_precisions(precisions: Mapping[str, Any]) -> None:
    """Refuse names that a bundle has no file for.

    Raises:
        ArgumentError: if a name is unknown, or ``fp32``, which is what is exported.
    """
    for name in precisions:
        if name not in PRECISIONS or name == "fp32":
            known = ", ".join(other for other in PRECISIONS if other != "fp32")
            raise ArgumentError(f"`precisions` has {name!r}; known beside fp32: {known}.")


def check_interfaces(found: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Any]) -> None:
    """Refuse precisions that are not used as ``model.onnx`` is.

    Raises:
        ArgumentError: if inputs or outputs differ from those of ``wanted``.
    """
    for name, interface in found.items():
        for key in ("inputs", "outputs"):
            if interface[key] != wanted[key]:
                raise ArgumentError(f"`precisions[{name!r}]` has {key} {interface[key]}, model.onnx has {wanted[key]}.")


def cost_summary(dense: Cost, slim: Cost) -> dict[str, Any]:
    """Dense and realised cost of one image (multiply-adds), and how many times less the slim one is."""
    sizes = {name: {"flops": c.flops, "params": c.params, "bytes": c.bytes} for name, c in _named(dense, slim)}
    unknown = {name: cost.unknown for name, cost in _named(dense, slim) if cost.unknown}
    return {
        "convention": "multiply-adds for one image, one multiply-add counts as one (fvcore)",
        **sizes,
        "flops_ratio": dense.flops / slim.flops if slim.flops else None,
        "unknown_operators": unknown,
    }


def precision_entry(name: str, data: bytes, about: Mapping[str, Any]) -> dict[str, Any]:
    """What ``precisions`` says of one file: its name and size, accuracy and agreement (None where unknown), and ``about``."""
    return {"file": PRECISIONS[name], "bytes": len(data), "accuracy": None, "agreement": None, **about}


def fp32_accuracy(accuracy: Mapping[str, Any]) -> dict[str, Any] | None:
    """The accuracy of ``model.onnx``, as ``precisions`` has it; None where it was not measured."""
    known = accuracy.keys() >= {"split", "count", "slim"}
    return {"split": accuracy["split"], "count": accuracy["count"], "value": accuracy["slim"]} if known else None


def temperature(model: Mapping[str, Any], precision: str) -> float:
    """What the logits of a precision are divided by before softmax; 1 where ``model.json`` says nothing of it.

    A precision that there is for another runtime alone has that of fp32.
    """
    precisions = model["precisions"]
    entry = precisions.get(precision) or precisions.get("fp32") or {}
    return float((entry.get("confidence") or {}).get("temperature", 1.0))


def check_threshold(unsure_below: float | None) -> None:
    """Refuse a least probability of an answer that is none.

    Raises:
        ArgumentError: if it is not in [0, 1]; None is no threshold.
    """
    if unsure_below is not None and not 0 <= unsure_below <= 1:
        raise ArgumentError(f"`unsure_below` must be a probability in [0, 1], got {unsure_below}.")


def format_files(model: Mapping[str, Any]) -> dict[tuple[str, str], tuple[str, ...]]:
    """(format, precision) → the files that ``model.json`` says the network lies in for another runtime."""
    said = model.get("formats")
    held = said if isinstance(said, dict) else {}
    return {
        (name, precision): form.files(precision)
        for name, form in FORMATS.items()
        for precision in form.precisions
        if isinstance(held.get(name), dict) and precision in held[name]
    }


def versions() -> dict[str, str]:
    """Versions of what takes part in an export; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _named(dense: Cost, slim: Cost) -> tuple[tuple[str, Cost], ...]:
    return ("dense", dense), ("realised", slim)
