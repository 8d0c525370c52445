"""What every benchmark's JSON holds, and where it goes.

A file holds ``runs``: the newest run of each instruction set, the newest first. So a rerun on another kind of processor adds to
what there is, and one on the same kind takes its place. Files from before that hold a single run, with no instruction set.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from slimnet.files import write_json
from slimnet.measure.machine import cpu_model, instructions

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("slimnet", "torch", "torchvision", "onnxruntime", "fvcore", "torch-pruning")


def read_runs(name: str) -> list[dict[str, Any]]:
    """The runs that ``results/<name>.json`` holds, the newest first; none where there is no file."""
    try:
        content = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return list(content["runs"]) if "runs" in content else [content]


def write_result(name: str, values: Mapping[str, Any]) -> Path:
    """Write a run into ``results/<name>.json`` with date, device, instruction set and versions.

    It takes the place of the run of the same instruction set, and of one on the same device that does not record its set.
    """
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    run = {"date": date, **_here(), "versions": _versions(), **values}
    path = RESULTS / f"{name}.json"
    write_json(path, {"runs": [run, *(other for other in read_runs(name) if not _replaces(run, other))]})
    print(path)
    return path


def _replaces(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether two runs are of one kind of processor, as far as the older one tells."""
    if "instructions" in old:
        return bool(old["instructions"] == new["instructions"])
    return bool(old["device"] == new["device"])


def own_run(name: str) -> dict[str, Any]:
    """What a file holds from this machine and these versions; empty where there is nothing."""
    mine = {**_here(), "versions": _versions()}
    return next((run for run in read_runs(name) if mine.items() <= run.items()), {})


def write_networks(name: str, values: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> Path:
    """The same with ``networks``: rows with a ``name``. Other rows that the file has from this machine stay, in their places."""
    rows = {row["name"]: row for row in (*own_run(name).get("networks", []), *found)}
    return write_result(name, {**values, "networks": list(rows.values())})


def _here() -> dict[str, str]:
    import torch

    return {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_model(), "instructions": instructions()}


def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def without_paths(latency: Mapping[str, Any]) -> dict[str, Any]:
    """A latency report without the paths of its files."""
    clean = dict(latency)
    clean["variants"] = [{k: v for k, v in variant.items() if k != "path"} for variant in latency["variants"]]
    clean["control"] = {k: v for k, v in latency["control"].items() if k != "path"}
    return clean


def ratio(variant: Any) -> dict[str, Any]:
    """How much faster than the baseline, with its interval: of a network in a comparison, or of its A/A control."""
    return {"speedup": variant.speedup, "interval": list(variant.interval)}
