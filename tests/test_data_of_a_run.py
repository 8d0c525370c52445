"""One loader of a run's data: whoever asks gets the same images; and what a run recorded holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from slimnet.commands import evaluate_any, export_run
from slimnet.commands.export import network_config
from slimnet.data import Dataset, load_data
from slimnet.data._source import channel_statistics
from slimnet.errors import ArgumentError, DataError
from slimnet.methods import FSDP
from slimnet.training import Run, TrainConfig, train
from slimnet.training.data import load_config_data, load_data_of
from test_fer2013 import faces, rows, write

SETTINGS: list[dict[str, Any]] = [
    {},
    {"train_fraction": 0.25},
    {"train_fraction": 0.25, "seed": 3},
    {"val_fraction": 0.3, "seed": 7, "normalise": "0,0.1"},
    {"image_size": 12, "train_fraction": 0.5},
    {"data": "fer2013", "data_options": {"drop_leaked": True}},
    {"data": "fer2013", "data_options": {"skip_bad_rows": True, "drop_leaked": False}, "train_fraction": 0.5},
    {"data": "ferplus", "data_options": {"skip_bad_rows": True}},
]


def csv(folder: Path) -> Path:
    """FER2013 with a leaked image, and FER+ with votes for each row."""
    images = faces()
    images[14] = images[1]
    write(folder, rows(images))
    names = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    usages = [line.rpartition(",")[2] for line in rows(images)]
    votes = [f"{usage},{i}.png," + ",".join("10" if i % 8 == c else "0" for c in range(10)) for i, usage in enumerate(usages)]
    write(folder, votes, name="fer2013new.csv", header=names)
    return folder


def of_run(config: TrainConfig, data: Dataset) -> Run:
    return Run(Path("run"), config, data.as_dict(), {}, [], {})


def same(one: Dataset, other: Dataset) -> bool:
    splits = [(getattr(one, name), getattr(other, name)) for name in ("train", "val", "test")]
    return (
        (one.classes, one.mean, one.std) == (other.classes, other.mean, other.std)
        and all(len(a) == len(b) for a, b in splits)
        and all(torch.equal(a.take(torch.arange(len(a))), b.take(torch.arange(len(b)))) for a, b in splits)
        and all(torch.equal(a.labels, b.labels) for a, b in splits)
        and all((a.soft is None) == (b.soft is None) and (a.soft is None or torch.equal(a.soft, b.soft)) for a, b in splits)
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_everybody_gets_the_same_images(settings: dict[str, Any], tmp_path: Path) -> None:
    where = {"data_dir": str(csv(tmp_path))} if "fer" in settings.get("data", "") else {}
    config = TrainConfig(model="resnet8", **settings, **where)
    trained = load_config_data(config)
    run = of_run(config, trained)
    assert same(run.dataset(), trained)  # what export and its calibration take
    assert same(load_data_of(json.loads(json.dumps(config.as_dict()))), trained)  # what evaluate takes of a run
    kept = json.loads(json.dumps(network_config(run)))  # … and of a bundle, which holds no path
    assert "data_dir" not in kept
    assert same(load_data_of(kept, data_dir=where.get("data_dir")), trained)


def test_a_quarter_is_a_quarter() -> None:
    config = TrainConfig(model="resnet8", train_fraction=0.25)
    assert [len(load_data_of(settings).train) for settings in (config.as_dict(), {"data": "digits"})] == [324, 1294]
    assert len(of_run(config, load_config_data(config)).dataset().train) == 324


def test_of_another_data_set_the_settings_of_this_one_do_not_hold() -> None:
    settings = {"data": "fer2013", "image_size": 12, "train_fraction": 0.5, "data_options": {"drop_leaked": True}, "seed": 4}
    assert same(load_data_of(settings, data="digits"), load_data("digits", image_size=12))
    with pytest.raises(ArgumentError, match="the data set is not known: name it with --data"):
        load_data_of({})


# --- mean and deviation ---------------------------------------------------------------------------------------------------


def test_what_is_held_out_has_no_part_in_the_mean(tmp_path: Path) -> None:
    for value, part in ((0, "train/a"), (255, "train/b"), (9, "test/a"), (9, "test/b")):
        for i in range(10):
            (tmp_path / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4), value if i else 100, dtype=np.uint8)).save(tmp_path / part / f"{i}.png")
    for data in (load_data("folder", data_dir=tmp_path, val_fraction=0.3, seed=1), load_data("digits", val_fraction=0.6, seed=1)):
        assert (data.mean, data.std) == channel_statistics(data.train)
        assert data.mean != channel_statistics(data.val)[0]


def test_numbers_for_every_channel() -> None:
    data = load_data("digits", normalise="0.25,0.1")
    assert (data.mean, data.std) == ((0.25,), (0.1,))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with the mean and the deviation of a time when they were those of validation images too."""
    out = tmp_path_factory.mktemp("old") / "run"
    settings = {"precision": "fp32", "channels_last": False, "device": "cpu", "progress": False, "batch_size": 128}
    train(out=out, model="test_resume:small_net", method=FSDP(), epochs=2, train_fraction=0.5, **settings)
    return altered(out)


def altered(out: Path) -> Run:
    config = json.loads((out / "config.json").read_text())
    config["data"] |= {"mean": [0.31], "std": [0.37]}
    (out / "config.json").write_text(json.dumps(config))
    return Run.open(out, trust_code=True)


def test_an_older_run_keeps_its_mean(old: Run, tmp_path: Path) -> None:
    from slimnet.training import evaluate

    data = old.dataset()
    assert (data.mean, data.std) == (old.mean, old.std) == ((0.31,), (0.37,))
    wanted = evaluate(old.load_model(), data.test, mean=(0.31,), std=(0.37,))
    assert evaluate_any(old.path, trust_code=True)[0] == wanted
    bundle = export_run(old.path, tmp_path / "bundle", trust_code=True)
    assert bundle.report["accuracy"]["slim"] == wanted.accuracy
    assert json.loads((bundle.path / "config.json").read_text())["mean"] == [0.31]
    assert evaluate_any(bundle.path, trust_code=True)[0].confusion == wanted.confusion
    assert (
        evaluate_any(bundle.path, split="train", trust_code=True)[0].count
        == evaluate_any(old.path, split="train", trust_code=True)[0].count
        == 647
    )


def test_a_run_that_goes_on_keeps_its_mean(old: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slimnet.training import engine

    seen = []
    for name in ("config.json", "checkpoint.safetensors", "checkpoint.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((old.path / name).read_bytes())
    prepare = engine.prepare
    monkeypatch.setattr(engine, "prepare", lambda *a, **k: seen.append(prepare(*a, **k)) or seen[0])
    assert train(out=tmp_path, resume=True, progress=False, trust_code=True).mean == (0.31,)
    assert seen[0].dataset.mean == (0.31,)


def test_a_run_of_other_images_is_refused(old: Run) -> None:
    with pytest.raises(DataError, match="was trained on images of 3 channels"):
        replace(old, data={**old.data, "mean": [0.0] * 3}).dataset()
