"""Every reader of a file of JSON holds it against its schema."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schema_cases import WHOLE, changed
from slimnet.bundle.check import read_report
from slimnet.bundle.seal import sealed
from slimnet.commands import evaluate_any
from slimnet.commands.rebuild import load_dense_shape, load_slim
from slimnet.errors import FileFormatError
from slimnet.export import read_bundle
from slimnet.files import write_json, write_tensors
from slimnet.ready import ready_bundle
from slimnet.training.checkpoint import _values
from slimnet.training.metrics import read_lines, read_metrics
from slimnet.training.run import read_record
from slimnet.web.site import _check_old_site


def network(folder: Path, value: Any) -> None:
    """A folder that looks like a cut network, up to what stands in its config.json."""
    write_json(folder / "config.json", value)
    write_json(folder / "plan.json", WHOLE["plan"])
    write_tensors(folder / "slim.safetensors", {})


def line(name: str) -> Callable[[Path, Any], None]:
    return lambda folder, value: (folder / name).write_text(json.dumps(value) + "\n") and None


def named(name: str) -> Callable[[Path, Any], None]:
    return lambda folder, value: write_json(folder / name, value)


def bundle(folder: Path, value: Any) -> None:
    shutil.copytree(ready_bundle("expressions"), folder, dirs_exist_ok=True)
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (folder / "model.json").write_bytes(sealed({**model, "labels": value["labels"]}))


def compact(folder: Path, value: Any) -> None:
    """A bundle of one network: nothing builds it from its config.json."""
    shutil.copytree(ready_bundle("expressions"), folder, dirs_exist_ok=True)
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", value)
    data = (folder / "config.json").read_bytes()
    model["files"]["config.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "model.json").write_bytes(sealed(model))


def header(folder: Path, value: Any) -> None:
    write_tensors(folder / "c.safetensors", {}, metadata={"state": json.dumps(value)})


Row = tuple[str, tuple[str | int, ...], Any, Callable[[Path, Any], None], Callable[[Path], Any], str]
NETWORK, TRUE = ("network", ("num_classes",), True, network), "config.json: `num_classes` must be a whole number, got true"
READERS: dict[str, Row] = {
    "load_slim": (*NETWORK, load_slim, TRUE),
    "load_dense_shape": (*NETWORK, load_dense_shape, TRUE),
    "evaluate": (*NETWORK, evaluate_any, TRUE),
    "evaluate, of a compact bundle": ("network", ("num_classes",), True, compact, evaluate_any, TRUE),
    "bundle": ("bundle", ("labels",), [1], bundle, read_bundle, r"model.json: `labels\[0\]` must be a text, got 1"),
    "report": ("report", ("accuracy", "count"), -1, named("report.json"), read_report, "`accuracy.count` must be at least 0"),
    "run": ("run", ("data", "train"), -1, named("config.json"), read_record, "config.json: `data.train` must be at least 0"),
    "run, a std too few": (
        *("run", ("data", "std"), [0.5, 0.5], named("config.json"), read_record),
        "`mean` and `std` are a number a channel",
    ),
    "metrics": (
        "metrics",
        ("epoch",),
        -1,
        line("metrics.jsonl"),
        read_metrics,
        "metrics.jsonl, line 1: `epoch` must be at least 0",
    ),
    "selection": (
        *("selection", ("epoch",), -1, line("s.jsonl"), lambda folder: read_lines(folder / "s.jsonl", "selection")),
        "s.jsonl, line 1: `epoch` must be at least 0",
    ),
    "a line that is a list": ("metrics", (), [1], line("metrics.jsonl"), read_metrics, "line 1, is not a JSON object"),
    "a file that is a list": ("run", (), [1], named("config.json"), read_record, "does not hold a JSON object"),
    "checkpoint": (
        *("checkpoint", ("step",), -1, header, lambda folder: _values(folder / "c.safetensors")),
        "`step` must be at least 0",
    ),
    "checkpoint of another format": (
        *("checkpoint", ("format",), "slimnet-checkpoint/0", header, lambda folder: _values(folder / "c.safetensors")),
        "is not a checkpoint of this format",
    ),
    "site": (
        *("site", ("files",), "x", named("site.json"), lambda folder: _check_old_site(folder, force=True)),
        "site.json: `files` must be a list",
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_holds_its_file_against_its_schema(reader: str, tmp_path: Path) -> None:
    kind, path, to, write, read, message = READERS[reader]
    write(tmp_path, changed(WHOLE[kind], path, to))
    with pytest.raises(FileFormatError, match=message):
        read(tmp_path)
