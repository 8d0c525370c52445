"""Settings that do nothing beside the others are said, and those that do something are not."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from listeners import Heard
from slimnet import train
from slimnet.commands import prune_and_finetune, prune_checkpoint
from slimnet.data import Dataset, load_data
from slimnet.methods import FPGM, FSDP, SFP
from slimnet.settings import PrecisionSettings, unused_precision_settings
from slimnet.training import TrainConfig
from slimnet.training.unused import unused_settings

TARGET = {"target": {"flops": 0.5}}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


def names(config: TrainConfig, dataset: Dataset) -> list[str]:
    found = []
    for line in unused_settings(config, dataset):
        match = re.fullmatch(r"`(\w+)` does nothing here: [^\n]+", line)
        assert match, line
        found.append(match[1])
    return found


SAID: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"distill_weight": 0.9, "distill_temperature": 2}, ["distill_weight", "distill_temperature"]),
    ({"distill_weight": 0.9, "distill_temperature": 2, "teacher": "t"}, []),
    ({"momentum": 0.8, "optimizer": "adamw"}, ["momentum"]),
    ({"momentum": 0.8}, []),
    ({"gamma": 0.5, "milestones": (1,), "schedule": "cosine"}, ["gamma", "milestones"]),
    ({"gamma": 0.5, "milestones": (1,)}, []),
    ({"target_threads": 2, "target_batch": 8}, ["target_threads", "target_batch"]),
    ({"target_threads": 2, "target_batch": 8, "method": FSDP(), **TARGET}, []),
    ({"method": SFP(rate=0.3), **TARGET}, ["rate"]),
    ({"method": FPGM(rate=0.3), **TARGET}, ["rate"]),
    ({"method": FPGM(rate=0.3, rate_norm=0.1), **TARGET}, []),  # what share of the width goes by the norm
    ({"method": FSDP(rate_cs=0.2, rate_gm=0.2), **TARGET}, []),
    ({"method": SFP(rate=0.3)}, []),
    ({"num_workers": 2}, ["num_workers"]),
    ({"num_workers": 2, "transform": "Mirror"}, []),
    ({"download": True}, ["download"]),
    ({"download": True, "data": "cifar10"}, []),
    ({"val_fraction": 0.2}, []),
    ({"augment": {"area": 0.2, "crop_padding": 2, "flip": False}}, ["crop_padding"]),
    ({"augment": {"crop_padding": 2}}, []),
    ({"augment": {"crop_padding": 2}, "transform": "Mirror"}, ["augment"]),
]


@pytest.mark.parametrize(("settings", "said"), SAID)
def test_what_is_said(settings: dict[str, Any], said: list[str], digits: Dataset) -> None:
    assert names(TrainConfig(model="resnet8", **settings), digits) == said


def test_a_validation_split_of_its_own_and_pictures_that_stream(tmp_path: Path) -> None:
    for place in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), (9 * number, 0, 0)).save(tmp_path / place / f"{number}.png")
    config = TrainConfig(model="resnet8", val_fraction=0.2, num_workers=2)
    assert names(config, load_data("folder", data_dir=tmp_path)) == ["val_fraction", "num_workers"]
    assert names(config, load_data("folder", data_dir=tmp_path, resident_bytes=0)) == ["val_fraction"]
    shutil.rmtree(tmp_path / "val")
    assert names(config, load_data("folder", data_dir=tmp_path, val_fraction=0.4, resident_bytes=0)) == []


def test_a_run_says_it_once_and_trains(tmp_path: Path) -> None:
    how: dict[str, Any] = {"model": "small_nets:two_layers", "batch_size": 64, "precision": "fp32", "distill_weight": 0.9}
    seen = Heard()
    run = train(out=tmp_path / "run", epochs=1, progress=seen, **how)
    assert [line for line in seen.lines if "does nothing" in line] == [
        "`distill_weight` does nothing here: there is no teacher; --teacher names one"
    ]
    assert json.loads((run.path / "config.json").read_text())["train"]["distill_weight"] == 0.9
    again = Heard()
    train(out=run.path, resume=True, epochs=2, progress=again, trust_code=True)
    assert not [line for line in again.lines if "does nothing" in line]


def test_fine_tuning_without_a_teacher_has_no_weight_for_one(tmp_path: Path) -> None:
    how: dict[str, Any] = {"model": "resnet8", "batch_size": 64, "precision": "fp32"}
    dense = train(out=tmp_path / "dense", epochs=1, progress=False, **how)
    said: list[str] = []
    tune: dict[str, Any] = {"data": "digits", "epochs": 1, "rate": 0.4, "batch_size": 64, "precision": "fp32"}
    seen = Heard()
    run = prune_and_finetune(dense.path, tmp_path / "tuned", teacher=None, threads=2, progress=seen, say=said.append, **tune)
    assert run.config.distill_weight == TrainConfig(model="resnet8").distill_weight
    assert not [line for line in seen.lines if "does nothing" in line]
    assert [line for line in said if "does nothing" in line] == [
        "`target_threads` does nothing here: there is no target; --target-speedup X is one"
    ]
    aimed: dict[str, Any] = {**tune, "rate": None, "target": {"flops": 0.6}}
    prune_and_finetune(dense.path, tmp_path / "aimed", teacher=None, num_classes=7, progress=seen, say=said.append, **aimed)
    assert said[-1] == "`num_classes` does nothing here: the network is built for the data that it is fine-tuned on"
    taught = prune_and_finetune(dense.path, tmp_path / "taught", progress=False, say=said.append, **tune)
    assert taught.config.distill_weight == 0.9


PRUNING: list[tuple[dict[str, Any], list[str]]] = [
    ({"rate": 0.4}, []),
    ({"rate": 0.4, "data": "digits", "data_dir": "no"}, ["data"]),
    ({"rate": 0.4, "data_dir": "no"}, ["data_dir"]),
    ({"rate": 0.4, "threads": 2, "batch": 3}, ["target_threads", "target_batch"]),
    ({"rate": 0.4, "data": "digits", "criterion": "taylor"}, []),
]


@pytest.mark.parametrize(("choice", "expected"), PRUNING)
def test_pruning_at_once(choice: dict[str, Any], expected: list[str], tmp_path: Path) -> None:
    from slimnet.models import build_model

    torch.save(build_model("resnet8", num_classes=10, in_channels=1).state_dict(), tmp_path / "x.pth")
    said: list[str] = []
    prune_checkpoint(tmp_path / "x.pth", tmp_path / "out", model="resnet8", image_size=8, say=said.append, **choice)
    assert re.findall(r"`(\w+)` does nothing", "\n".join(said)) == expected


PRECISIONS: list[tuple[PrecisionSettings, list[str]]] = [
    (PrecisionSettings(), []),
    (PrecisionSettings(max_drop=0.1, calibration=5), ["max_drop", "calibration"]),
    (
        PrecisionSettings(("fp16",), max_drop=0.1, calibration=5, seed=1, reduce_range=False, placing="measured"),
        ["calibration", "seed", "reduce_range", "placing"],
    ),
    (PrecisionSettings(("int8",), max_drop=0.1, calibration=5, seed=1, reduce_range=False, placing="measured"), []),
]


@pytest.mark.parametrize(("settings", "expected"), PRECISIONS)
def test_settings_of_precisions(settings: PrecisionSettings, expected: list[str]) -> None:
    assert re.findall(r"`(\w+)` does nothing", "\n".join(unused_precision_settings(settings))) == expected
