"""A right value for each schema, and what is made of it: at every place another type, number or text, a key more or less."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

OTHERS: dict[str, Any] = {"null": None, "a flag": True, "a number": 0.5, "a text": "?", "a list": [], "an object": {}}
LONG = "x" * 1001


Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place in a value, the first of each list alone."""
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def changed(value: Any, path: Path, to: Any) -> Any:
    """A copy with another value at a place; that of an empty path is the whole."""
    if not path:
        return to
    copied = copy.deepcopy(value)
    at = copied
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return copied


def changes(value: Any) -> Iterator[tuple[str, Any]]:
    """What may stand in the place of one value, and what it is."""
    kind = "a flag" if isinstance(value, bool) else "null" if value is None else _KINDS[type(value)]
    yield from ((name, other) for name, other in OTHERS.items() if name != kind)
    match value:
        case bool():
            yield "not", not value
        case int() | float():
            yield from (("-1", -1), ("-1e7", -(10**7)), ("1e19", 10**19), ("NaN", float("nan")), ("0", 0))
            yield "1e299", 1e299
        case str():
            yield from (("no text", ""), ("a long text", LONG))
        case list():
            yield from (("no item", []), ("one item more", [*value, *value[:1]]))
        case dict():
            yield from (("a further text", {**value, "?": "?"}), ("a further list", {**value, "?": []}))


_KINDS = {int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "an object"}


def taken(whole: Any, fits: Callable[[Any], bool]) -> dict[str, str]:
    """Of all changes those that fit nonetheless: what may be → at which places."""
    found: dict[str, list[str]] = {}
    for path, value in places(whole):
        for name, to in changes(value):
            if fits(changed(whole, path, to)):
                found.setdefault(name, []).append(_name(path))
        for key in value if isinstance(value, dict) else ():
            if fits(changed(whole, path, {name: item for name, item in value.items() if name != key})):
                found.setdefault("missing", []).append(_name((*path, key)))
    return {name: " ".join(paths) for name, paths in sorted(found.items())}


def _name(path: Path) -> str:
    return ".".join(map(str, path)) or "$"


# --- right values, with all that may be in them ------------------------------------------------------------------------

LAYER = {"name": "conv", "reads": 3, "makes": 8, "reads_kept": 3, "makes_kept": 5, "dense_ms": 1.5, "ms": 0.5}
COST = {"flops": 9, "params": 8, "bytes": 32, "unknown": {"Foo": 1}, "by_module": {"conv": 2}}
CHECK = {"pair": "a and b", "input": "random", "batch": 1, "dtype": "float32", "max_abs": 0.5, "scale": 1.5, "tolerance": 0.5}
PARITY = {"checks": [{**CHECK, "agreement": 1.0, "undecided": 3}]}
WHOLE: dict[str, dict[str, Any]] = {
    "checkpoint": {
        "format": "slimnet-checkpoint/1", "epoch": 1, "step": 2, "seconds": [0.5, 1.5], "plan": {}, "checksum": "0123abcd",
        "best": {"epoch": 1, "accuracy": 0.5, "loss": 1.5},
        "pruner": {"epoch": 1, "adaptive": True, "stage": 2, "state": {"epoch": 1}},
    },
    "copy": {"key": "k", "bad": ["line 3"], "bad_count": 1},
    "cost_entry": {"value": 1.5, "crc": "0123abcd"},
    "costs": {"format": "slimnet-costs/2", "target": {}, "entries": {}},
    "metrics": {
        "final": True, "epoch": 3, "best_epoch": 2, "is_closed": True, "norms_reestimated": True, "train_accuracy": 0.5,
        "val_accuracy": 0.5, "test_accuracy": 0.5, "test_images": 2, "test_confusion": [[3, 1], [0, 2]],
    },
    "network": {
        "model": "resnet8", "num_classes": 10, "in_channels": 3, "image_shape": [3, 32, 32], "mean": [0.5], "std": [0.5],
        "data": "digits", "data_dir": "d", "image_size": 32, "val_fraction": 0.5, "train_fraction": 0.5, "seed": 3,
        "normalise": "dataset", "data_options": {"balanced": True},
    },
    "plan": {
        "version": 1,
        "groups": [{"name": "a", "size": 8, "kept": "0-3,6", "members": ["c"], "closed": 3, "partly": 2, "reasons": {"why": 1}}],
        "cuts": [{"name": "conv.weight", "dim": 1, "size": 8, "kept": "0-3,6"}],
        "folds": [
            {"weight": "w", "bias": "b", "in_dim": 1, "columns": [1], "constants": [0.5], "carrier": 1, "carrier_value": 1.5}
        ],
        "moves": [{"module": "m", "in_size": 4, "inputs": "0", "out_size": 4, "outputs": "1"}],
        "shuts": [{"module": "m", "values": [0.5], "dims": 4, "full": False, "others": ["n"]}],
        "expansions": [{"module": "m", "live": "0", "values": [0.5], "dims": 4}],
    },
    "report": {
        "parity": {"slim": PARITY, "dense": PARITY},
        "cost": {"dense": COST, "slim": COST},
        "accuracy": {"split": "test", "count": 3, "slim": 0.5, "dense": 0.5},
        "paper_accounting": {"saved": 0.5}, "surgery": {}, "method": {}, "data": {},
        "target": {"target": {"flops": 0.5}, "predicted": {}},
    },
    "run": {
        "format": "slimnet-run/1", "slimnet": "0.1", "train": {},
        "data": {
            "name": "digits", "classes": ["a", "b"], "image_shape": [1, 8, 8], "train": 3, "val": 2, "test": 1, "mean": [0.5],
            "std": [0.5], "notes": ["n"],
        },
        "environment": {"threads": 2, "world_size": 1},
        "target": {"predicted": {}, "layers": [LAYER]},
    },
    "selection": {"epoch": 3, "selected": {"a": "0f"}},
    "site": {"format": "slimnet-site", "files": ["a"]},
}  # fmt: skip

SHA = "0" * 64
VALUES = [{"name": "input", "dtype": "float32", "shape": ["batch", 1]}]
BUNDLE_CHECK = {**CHECK, "agreement": 1.0, "undecided": 1, "relative": 0.5, "passed": True}
SIZES = {"flops": 9, "params": 8, "bytes": 32}
ACCURACY = {"split": "test", "count": 3, "value": 0.5}
GREY = {"weights": [19595, 38470, 7471], "shift": 16, "rounding": "half-up"}
FIT = {"fit": "cover", "filter": "bilinear", "antialias": True, "passes": ["horizontal", "vertical"], "bits": 8}
RESIZE = {**FIT, "size_rounding": "half-even", "crop": "centre", "crop_rounding": "down"}
ENTRY = {"bytes": 5, "accuracy": ACCURACY, "agreement": 0.5, "per_class": [0.5]}
FILES = ("config.json", "report.json", "model.onnx", "dense.onnx", "slim.safetensors", "plan.json")
BUNDLE: dict[str, Any] = {
    "format": "slimnet-bundle", "schema": 2, "opset": 20, "inputs": VALUES, "outputs": VALUES, "labels": ["a"],
    "preprocessing": {
        "size": [8, 8], "channels": 1, "color": "grey", "mean": [0.5], "std": [0.5], "range": [0.0, 1.0], "layout": "NCHW",
        "orientation": "exif", "alpha": "dropped", "grey": GREY, "resize": RESIZE,
    },
    "cost": {
        "convention": "c", "dense": SIZES, "realised": SIZES, "flops_ratio": 0.5, "unknown_operators": {"dense": {"Foo": 1}},
    },
    "accuracy": {"split": "test", "count": 3, "slim": 0.5, "dense": 0.5},
    "precisions": {name: {"file": file, **ENTRY} for name, file in (("fp32", "model.onnx"), ("int8", "model.int8.onnx"))},
    "embedded": {
        "file": "model.uint8.onnx", "of": "fp32", "bytes": 5, "inputs": VALUES, "outputs": VALUES, "parity": BUNDLE_CHECK,
    },
    "parity": {"passed": True, "worst": {"pair": BUNDLE_CHECK}},
    "provenance": {
        "recipe": "r", "model": "m", "method": "fsdp", "data": "d", "epochs": 3, "seed": 3, "run_config_sha256": SHA,
        "versions": {"torch": "2"},
    },
    "files": {name: {"bytes": 5, "sha256": SHA} for name in FILES},
    "sha256": SHA,
}  # fmt: skip
WHOLE["bundle"] = BUNDLE
