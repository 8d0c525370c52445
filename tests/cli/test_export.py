"""slimnet export: the bundle, the parity gate, and what bad input gets."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import slimnet.surgery
from cli.cases import (
    BUNDLE,
    Bad,
    Made,
    change_json,
    copied,
    cut,
    holding,
    nothing,
    refused,
    without_result,
    wrong_usage,
)
from command import slimnet_cli
from slimnet.allocation import aligned
from slimnet.export import read_bundle
from slimnet_cli._precision import show_precisions
from slimnet_cli.export import _table
from test_files import contents

# --- what works -----------------------------------------------------------------------------------------------------------


def test_export_writes_exactly_the_bundle(made: Made) -> None:
    assert {path.name for path in made.bundle.iterdir()} == BUNDLE
    assert not [path for path in made.bundle.parent.iterdir() if path.name.startswith(".")]
    config = (made.bundle / "config.json").read_text()
    assert str(made.bundle.parent) not in config


def test_export_prints_parity_and_cost(made: Made) -> None:
    found = re.search(r"masked (\S+) relative in float64 \(at most 1e-9\)", made.exported.out)
    assert found
    assert 0 <= float(found[1]) <= 1e-9
    found = re.search(r"masked (\S+) relative in float32 \(at most 1e-5\)", made.exported.out)
    assert found
    assert 0 <= float(found[1]) <= 1e-5
    found = re.search(r"FLOPs saved: (\S+) % realised, (\S+) % in paper accounting", made.exported.out)
    assert found
    assert float(found[1]) > float(found[2]) > 50
    assert re.search(r"^FLOPs +\S+ k +\S+ k +[3-5]\.\d\d$", made.exported.out, re.MULTILINE)
    assert made.exported.out.splitlines()[-1] == str(made.bundle)
    assert "no dense network that the run started from" in made.exported.err


def test_export_force_replaces_a_bundle_and_prints_json(made: Made, here: Path) -> None:
    shutil.copytree(made.bundle, here / "b")
    (here / "b" / "plan.json").write_text("old")
    done = slimnet_cli("export", made.run, "--out", "b", "--force", "--json", "--dense", made.run / "model.safetensors")
    assert done.status == 0
    assert done.json.keys() == {"path", "model", "report"}
    assert done.json["report"].keys() >= {"parity", "cost", "accuracy", "surgery", "paper_accounting"}
    assert json.loads((here / "b" / "plan.json").read_text())["version"]
    assert [path.name for path in here.iterdir()] == ["b"]


FRESH = """
import sys, numpy, onnxruntime, slimnet, torch
bundle = sys.argv[1]
assert "slimnet.training" not in sys.modules
model = slimnet.load_slim(bundle)
image = numpy.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(numpy.float32)
session = onnxruntime.InferenceSession(bundle + "/model.onnx", providers=["CPUExecutionProvider"])
found = session.run(None, {session.get_inputs()[0].name: image})[0]
with torch.no_grad():
    wanted = model(torch.from_numpy(image)).numpy()
assert not model.training
print(float(abs(found - wanted).max() / abs(wanted).max()))
"""


def test_slim_network_is_rebuilt_in_a_fresh_process(made: Made, here: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FRESH, str(made.bundle)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 1e-5


# --- the parity gate ------------------------------------------------------------------------------------------------------


def break_surgery(monkeypatch: pytest.MonkeyPatch) -> None:
    """A surgeon who changes one logit by a hair, unnoticed by its own verification."""
    right = slimnet.surgery.slim

    def wrong(*arguments: Any, **options: Any) -> Any:
        result = right(*arguments, **options)
        with torch.no_grad():
            result.model.get_parameter("linear.bias")[0] += 1e-3
        return result

    monkeypatch.setattr(aligned, "slim", wrong)


@pytest.mark.parametrize("was_there", [False, True], ids=["new", "forced"])
def test_failed_parity_leaves_no_bundle(was_there: bool, made: Made, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if was_there:
        shutil.copytree(made.bundle, here / "b")
    before = contents(here)
    break_surgery(monkeypatch)
    done = slimnet_cli("export", made.run, "--out", "b", "--force")
    assert (done.status, done.out) == (1, "")
    assert re.fullmatch(r"slimnet: error: model vs reference .* nothing was written\.", done.err.splitlines()[-1])
    assert contents(here) == before


def test_settings_of_a_precision_that_is_not_asked_for_are_said_to_do_nothing(made: Made, here: Path) -> None:
    done = slimnet_cli("export", made.run, "--out", "o", "--calibration", "9", "--max-drop", "0.5")
    assert done.status == 0
    assert [line for line in done.err.splitlines() if "does nothing" in line] == [
        "`calibration` does nothing here: it is for int8; --precision int8 asks for it"
    ]


def test_export_names_the_split_that_it_measured_on(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = read_bundle(made.bundle)
    assert re.search(r"^test accuracy +\d", made.exported.out, re.MULTILINE)
    accuracy = {"split": "val", "count": 9, "dense": 0.5, "slim": 0.5}
    told = {"written": True, "accuracy": {"split": "val", "count": 9, "value": 0.5}, "runtime": {"name": "r"}}
    report = bundle.report | {"accuracy": accuracy, "formats": {"tflite": {"int8": told}}}
    _table(replace(bundle, report=report))
    out = capsys.readouterr().out
    assert re.search(r"^val accuracy +50.00 %", out, re.MULTILINE)
    assert "tflite int8: val accuracy 50.00 % in r" in out


@pytest.mark.parametrize(("split", "head"), [("test", ["validation", "test", "agreement"]), ("val", ["validation", "agreement"])])
def test_precisions_are_told_of_each_split_once(split: str, head: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fp32 = SimpleNamespace(name="fp32", accuracy=0.5, agreement=1.0, data=b"", median_ms=1.0, speedup=1.0, interval=(1.0, 1.0),
                           kept=True, refused="")  # fmt: skip
    latency = SimpleNamespace(control=SimpleNamespace(interval=(1.0, 1.0)), rounds=9, flags={})
    entry = {"accuracy": {"split": split, "count": 9, "value": 0.75}}
    show_precisions(SimpleNamespace(found=[fp32], latency=latency), {"fp32": entry})
    top, _, row, *_ = capsys.readouterr().out.splitlines()
    assert top.split()[1 : 1 + len(head)] == head
    assert ("75.00 %" in row) == (split == "test")


# --- bad input ------------------------------------------------------------------------------------------------------------

BAD: list[Bad] = [
    ("export x --out new", "x is not a run: there is no such folder", nothing),
    ("export x --out new", "x is not a run: it holds no config.json", holding("x", Path.mkdir)),
    ("export x --out new", "x is not a run: it is a file", holding("x", Path.touch)),
    (
        "export x --out new",
        "x/config.json does not describe a run: the folder is a bundle",
        copied("bundle", lambda f: None),
    ),
    ("export x --out new", "the training in x did not finish: .*--resume", without_result(lambda f: None)),
    ("export x --out new", "x/config.json is not readable JSON", copied("run", lambda f: cut(f / "config.json"))),
    ("export x --out new", "x/metrics.jsonl, line ", copied("run", lambda f: cut(f / "metrics.jsonl"))),
    ("export x --out new", "x/metrics.jsonl, line 1", copied("run", lambda f: (f / "metrics.jsonl").write_bytes(b"\xff\n"))),
    (
        "export x --out new",
        "x/metrics.jsonl lacks lines of the 2 epochs",
        copied("run", lambda f: (f / "metrics.jsonl").write_text((f / "metrics.jsonl").read_text().splitlines()[-1])),
    ),
    (
        "export x --out new",
        "x/model.safetensors is not a readable safetensors",
        copied("run", lambda f: cut(f / "model.safetensors")),
    ),
    (
        "export x --out new",
        "x/model.safetensors does not fit resnet20",
        copied("run", lambda f: change_json(f / "config.json", lambda c: c["train"].update(model="resnet20"))),
    ),
    (
        "export x --out new",
        "x/config.json: `data` lacks `classes`",
        copied("run", lambda f: change_json(f / "config.json", lambda c: c["data"].pop("classes"))),
    ),
    (
        "export x --out new",
        "x/config.json: `model` must be a name, got 3",
        copied("run", lambda f: change_json(f / "config.json", lambda c: c["train"].update(model=3))),
    ),
    (
        "export x --out new",
        "/gone.pth, the weights of the dense network, does not exist: .*--dense",
        copied("run", lambda f: change_json(f / "config.json", lambda c: c["train"].update(init="/gone.pth"))),
    ),
    ("export {run} --out new --data-dir .", r"digits lies in no folder, got \.", nothing),
    ("export {run} --out new --dense no.pth", "no.pth, the weights of the dense network, does not exist", nothing),
    ("export {run} --out new --dense {bundle}", "bundle/config.json does not describe a run", nothing),
    ("export {run} --out new --opset 99", "`opset` must be from 11 to .*, got 99", nothing),
    ("export {run} --out new --opset 12 --precision int8", "int8 needs `opset` 13 or more, got 12", nothing),
    ("export {run} --out x", "x exists already: .*--force", copied("bundle", lambda f: None)),
    ("export x --out x --force", "x holds checkpoint.json, which is not ours to overwrite", copied("run", lambda f: None)),
    ("export x --out . --force", r"\. holds x, which is not ours to overwrite", copied("run", lambda f: None)),
    ("export {run} --out x", "x is a file, not a folder", holding("x", Path.touch)),
    ("export {run} --out x/y", r"x/y cannot be written \(Not a directory", holding("x", Path.touch)),
    ("export {run} --out /proc/x", "/proc/x cannot be written", nothing),
]


test_bad_input_gets_one_line_and_nothing_is_written = refused(BAD)


USAGE = [
    ("export", "Missing argument 'RUN'"),
    ("export r --out o --align 0", "0 is not in the range 1<=x<=2147483647"),
]


test_wrong_usage_exits_2 = wrong_usage(USAGE)
