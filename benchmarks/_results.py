"""What every benchmark's JSON holds, and where it goes."""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from slimnet._files import write_json
from slimnet.measure.machine import environment

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("slimnet", "torch", "torchvision", "onnxruntime", "fvcore", "torch-pruning")


def data_dir() -> Path:
    """The folder with the real data sets and weights, from SLIMNET_DATA."""
    value = os.environ.get("SLIMNET_DATA")
    if not value or not Path(value).is_dir():
        sys.exit("set SLIMNET_DATA to a folder with cifar-10-batches-py/ and weights/")
    return Path(value)


def write_result(name: str, values: Mapping[str, Any]) -> Path:
    """Write ``results/<name>.json`` with date, device and versions."""
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    head = {"date": date, "device": _device(), "versions": _versions()}
    path = RESULTS / f"{name}.json"
    write_json(path, head | dict(values))
    print(path)
    return path


def write_networks(name: str, values: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> Path:
    """The same with ``networks``: rows with a ``name``. Rows of other networks that the file has from this machine stay."""
    names = {row["name"] for row in found}
    try:
        before = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        before = {}
    same = (before.get("device"), before.get("versions")) == (_device(), _versions())
    kept = [row for row in before.get("networks", []) if row["name"] not in names] if same else []
    return write_result(name, {**values, "networks": [*kept, *found]})


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else environment().get("cpu", "cpu")


def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def without_paths(latency: Mapping[str, Any]) -> dict[str, Any]:
    """A latency report without the paths of its files."""
    clean = dict(latency)
    clean["variants"] = [{k: v for k, v in variant.items() if k != "path"} for variant in latency["variants"]]
    clean["control"] = {k: v for k, v in latency["control"].items() if k != "path"}
    return clean
