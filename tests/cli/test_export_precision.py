"""slimnet export with several precisions: the kept ones, the refused ones, and wrong flags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import slimnet
from slimnet.commands import PrecisionSettings, bench_bundle
from slimnet.commands.precisions import PrecisionStep
from slimnet.data import load_data
from slimnet.export import read_bundle
from slimnet.export.precision import METHODS
from slimnet.measure import LatencyReport, compare_latency
from slimnet.names import PRECISIONS as NAMES
from slimnet_cli import _run
from test_precision import scripted


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    method = slimnet.FSDP(finetune_epochs=1)
    slimnet.train(model="resnet8", method=method, out=out, epochs=2, batch_size=64, lr=0.05, precision="fp32", seed=3)
    return out


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """All timings from three rounds: here it only matters that there are some."""

    def compare(files: Mapping[str, Path], **how: Any) -> LatencyReport:
        return compare_latency(files, rounds=3, seconds=0, warmup=0, baseline=how.get("baseline"))

    monkeypatch.setattr("slimnet.measure.latency.compare_latency", compare)


def export(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = _run(["export", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


HOW = PrecisionSettings(("int8", "fp16"), max_drop=1.0, calibration=32, seed=5, reduce_range=False)


@pytest.mark.usefixtures("quick")
def test_export_writes_the_kept_precisions_the_same_every_time(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ("--precision", "fp32,int8,fp16", "--max-drop", "100", "--calibration", "32", "--seed", "5", "--full-range")
    status, out, err = export(capsys, run, "--out", tmp_path / "x", *how, "--json")
    assert status == 0, err
    bundle, data = read_bundle(tmp_path / "x"), load_data("digits", seed=3)
    found = json.loads(out)["precisions"]["found"]
    kept = {one["name"] for one in found if one["refused"] is None}
    assert [one["name"] for one in found] == list(NAMES)
    assert bundle.precision_files.keys() == kept
    entries = bundle.model["precisions"]
    again = PrecisionStep(data, HOW, lambda _: None)(bundle.onnx.read_bytes())
    for name in kept & again.keys():  # where one is missing, the clock decided
        assert bundle.precision_files[name].read_bytes() == again[name].data
        assert entries[name] == {**entries[name], **again[name].about}
        assert entries[name]["accuracy"]["split"] == "test"
        assert entries[name]["accuracy"]["count"] == 359
        assert entries[name]["validation"]["count"] == len(data.val)
        assert entries[name]["bytes"] == bundle.precision_files[name].stat().st_size
        assert "median_ms" not in entries[name]
    if "int8" in kept:
        assert entries["int8"]["calibration"] == {"split": "train", "count": 32, "seed": 5}
        assert entries["int8"]["reduce_range"] is False
        assert entries["int8"]["method"] in METHODS
    rows = {row["name"]: row for row in bench_bundle(tmp_path / "x").rows}
    assert list(rows) == ["dense", "slim", *(f"slim {name}" for name in NAMES if name in kept - {"fp32"})]
    for name in kept - {"fp32"}:
        assert rows[f"slim {name}"]["accuracy"] == entries[name]["accuracy"]["value"]
        assert rows[f"slim {name}"]["file_bytes"] == entries[name]["bytes"]


@pytest.mark.usefixtures("quick")
def test_export_prints_what_was_refused_and_leaves_no_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slimnet.commands.precisions.answers", lambda *_: scripted([next(left)])(b""))
    left = iter([0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    status, out, err = export(capsys, run, "--out", tmp_path / "x", "--precision", "int8", "--calibration", "16")
    assert status == 0, err
    assert "warning: int8 is not written: it loses 40.00 points of accuracy (50.00% against 90.00%" in err
    assert [line.split()[-1] for line in out.splitlines() if line.startswith(("fp32 ", "int8 "))] == ["yes", "no"]
    assert not (tmp_path / "x" / "model.int8.onnx").exists()
    assert read_bundle(tmp_path / "x").model["precisions"].keys() == {"fp32"}


@pytest.mark.parametrize("names", [("int8",), ("fp16",)])
def test_few_training_images_all_calibrate_and_it_is_said(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    data, said, given = load_data("digits", seed=3), list[str](), list[int]()
    few = replace(data, train=data.train.subset(torch.arange(100)))

    def make_precisions(fp32: bytes, further: tuple[str, ...], *, calibration: np.ndarray, **_: object) -> object:
        given.append(len(calibration))
        return SimpleNamespace(kept=[])

    monkeypatch.setattr("slimnet.export.precision.make_precisions", make_precisions)
    assert PrecisionStep(few, PrecisionSettings(names), said.append)(b"") == {}
    assert given == [100]
    line = "int8 is calibrated with all 100 training images: there are fewer than 256"
    assert (line in said) == ("int8" in names)


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        ("--precision int4", 2, "'int4' is not one of fp32, int8, fp16"),
        ("--precision int8,", 2, "'' is not one of fp32, int8, fp16"),
        ("--precision int8 --max-drop 101", 2, "101"),
        ("--precision int8 --calibration 0", 2, "0 is not in the range"),
    ],
)
def test_bad_flags_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str, status: int, message: str
) -> None:
    got, out, err = export(capsys, run, "--out", tmp_path / "x", *flags.split())
    assert (got, out) == (status, "")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "x").exists()
