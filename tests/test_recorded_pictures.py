"""Pictures are normalised as the network learnt them, also where its weights left the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import slimnet
from slimnet.commands import evaluate_any, export_run, prune_and_finetune, prune_checkpoint, slim_checkpoint, verify_bundle
from slimnet.commands.calibration import load_images_for
from slimnet.commands.opening import open_checkpoint
from slimnet.data import Batches, load_data, recorded_classes, recorded_size, recorded_statistics
from slimnet.errors import FileFormatError
from slimnet.files import read_json
from slimnet.training import Run, TrainConfig
from slimnet.training.known import with_known_size
from slimnet.training.teacher import load_teacher

MEAN, STD = 0.9, 0.2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of grey pictures that are normalised as those of the digits are not."""
    how: dict[str, Any] = {"batch_size": 64, "lr": 0.05, "precision": "fp32", "normalise": f"{MEAN},{STD}"}
    out = tmp_path_factory.mktemp("normalised") / "run"
    return slimnet.train(model="resnet8", method=slimnet.FPGM(rate=0.4), epochs=3, out=out, progress=False, **how)


def test_a_slim_folder_is_evaluated_as_its_run(run: Run, tmp_path: Path) -> None:
    slim_checkpoint(run.path, tmp_path / "slim")
    prune_checkpoint(run.path, tmp_path / "pruned", rate=0)
    slim_checkpoint(tmp_path / "pruned" / "model.safetensors", tmp_path / "again", model="resnet8", image_size=8)
    accuracy = evaluate_any(run.path)[0].accuracy
    assert accuracy > 0.5
    for name in ("slim", "again"):
        config = read_json(tmp_path / name / "config.json")
        assert (config["mean"], config["std"]) == ([MEAN], [STD])
        assert evaluate_any(tmp_path / name, data="digits")[0].accuracy == accuracy


def test_criteria_see_pictures_as_the_network_does(run: Run, tmp_path: Path) -> None:
    export_run(run.path, tmp_path / "bundle")
    expected = run.dataset().train
    for weights in (run.path, run.path / "model.safetensors", tmp_path / "bundle" / "model.onnx"):
        named = {} if weights == run.path or weights.suffix == ".onnx" else {"model": "resnet8", "image_size": 8}
        _, example, about = open_checkpoint(weights, **named)
        images = load_images_for(example, "digits", None, about)
        assert (images.mean, images.std) == ((MEAN,), (STD,))
        assert about["classes"] == list(run.classes)
        assert torch.equal(images.train.images, expected.images)


def test_weights_that_say_nothing_take_those_of_the_data(run: Run, tmp_path: Path) -> None:
    torch.save(run.load_model().state_dict(), tmp_path / "x.pth")
    _, example, about = open_checkpoint(tmp_path / "x.pth", model="resnet8", image_size=8)
    assert "mean" not in about
    assert load_images_for(example, "digits", None, about).mean != (MEAN,)


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_a_deviation_that_is_none_is_refused(std: float, tmp_path: Path) -> None:
    """Pictures would be divided by it."""
    network = {"model": "resnet8", "num_classes": 10, "in_channels": 1, "image_shape": [1, 8, 8]}
    (tmp_path / "config.json").write_text(json.dumps({**network, "mean": [0.5], "std": [std]}), encoding="utf-8")
    with pytest.raises(FileFormatError, match=r"config\.json: `std` must be above 0, got \["):
        recorded_statistics(tmp_path / "model.safetensors", 1)
    assert recorded_statistics(tmp_path / "model.safetensors", 3) is None


def test_a_baseline_sees_pictures_as_it_learnt_them(run: Run, tmp_path: Path) -> None:
    how: dict[str, Any] = {"model": "resnet8", "batch_size": 64, "lr": 0.05, "precision": "fp32", "progress": False}
    dense = slimnet.train(epochs=3, out=tmp_path / "dense", **how)
    on = slimnet.train(
        epochs=1, init=str(dense.path / "model.safetensors"), normalise=f"{MEAN},{STD}", out=tmp_path / "on", **how
    )
    for bundle, said in (
        (export_run(run.path, tmp_path / "a", dense=dense.path, say=(first := list[str]()).append), first),
        (export_run(on.path, tmp_path / "b", say=(second := list[str]()).append), second),
    ):
        assert bundle.report["accuracy"]["dense"] == dense.result["test_accuracy"]
        assert sum("learnt from pictures of mean" in line for line in said) == 1
        assert evaluate_any(bundle.path / "dense.onnx", data="digits")[0].accuracy == dense.result["test_accuracy"]
        assert verify_bundle(bundle.path).faults == ()
    again = slimnet.train(epochs=1, init=str(dense.path), val_fraction=0.2, out=tmp_path / "again", **how)
    said = []
    export_run(again.path, tmp_path / "c", say=said.append)
    assert not any("learnt" in line for line in said), "another split of the same data"


def test_training_goes_on_with_pictures_as_the_weights_learnt_them(run: Run, tmp_path: Path) -> None:
    slim_checkpoint(run.path, tmp_path / "slim")
    how: dict[str, Any] = {"epochs": 1, "batch_size": 64, "lr": 0.05, "precision": "fp32", "progress": False}
    for name, init in {"run": run.path, "weights": run.path / "model.safetensors", "slim": tmp_path / "slim"}.items():
        on = slimnet.train(model="resnet8", init=str(init), out=tmp_path / f"on-{name}", **how)
        assert (on.mean, on.std) == ((MEAN,), (STD,)), name
        assert on.dataset().mean == (MEAN,)
    torch.save(run.load_model().state_dict(), tmp_path / "x.pth")
    for changes in ({"init": str(tmp_path / "x.pth")}, {"init": str(run.path), "normalise": "0.5,0.5"}):
        other = slimnet.train(model="resnet8", out=tmp_path / "other", force=True, **how | changes)
        assert other.mean != (MEAN,)


def of_pictures(folder: Path) -> dict[str, Any]:
    """Settings of a short training on dark and light pictures of several sizes, drawn into a folder."""
    draw = torch.Generator().manual_seed(0)
    for name in ("dark", "light"):
        (folder / name).mkdir(parents=True)
        for i in range(40):
            grey = torch.randint(0, 156, (20 + i % 3, 20), generator=draw, dtype=torch.uint8).numpy() + 100 * (name == "light")
            Image.fromarray(grey.astype("uint8")).save(folder / name / f"{i}.png")
    how: dict[str, Any] = {"data": "folder", "data_dir": str(folder), "epochs": 1, "batch_size": 8, "progress": False}
    return how | {"model": "resnet8", "precision": "fp32", "val_fraction": 0.2}


def test_training_goes_on_at_the_size_of_the_first_run(tmp_path: Path) -> None:
    how = of_pictures(tmp_path / "data")
    first = slimnet.train(image_size=12, out=tmp_path / "first", **how)
    said: list[str] = []
    assert slimnet.train(init=str(first.path), out=tmp_path / "on", **how).image_shape == first.image_shape
    config = with_known_size(TrainConfig(**{k: v for k, v in how.items() if k != "progress"}, init=str(first.path)), said.append)
    assert config.image_size == 12
    assert said == [f"images are resized to 12×12, as {first.path} learnt from them (--image-size sets another size)"]
    assert slimnet.train(init=str(first.path), image_size=16, out=tmp_path / "other", **how).image_shape[1:] == (16, 16)


def test_what_others_write_beside_weights_says_nothing(tmp_path: Path) -> None:
    said = {"architectures": ["X"], "image_size": 224, "mean": [123.7], "std": [58.4], "classes": ["a", "b"]}
    (tmp_path / "config.json").write_text(json.dumps(said), encoding="utf-8")
    weights = tmp_path / "model.safetensors"
    assert (recorded_size(weights), recorded_statistics(weights, 1), recorded_classes(weights)) == (None, None, None)


def test_first_weights_that_are_not_there_say_nothing(run: Run) -> None:
    said: list[str] = []
    config = TrainConfig(model="resnet8", data="folder", init=str(run.path / "typo.pth"))
    assert with_known_size(config, said.append) == config
    assert not said


def test_prune_and_finetune_takes_the_size_of_the_run(tmp_path: Path) -> None:
    how = of_pictures(tmp_path / "data")
    first = slimnet.train(image_size=12, out=tmp_path / "first", **how)
    weights = first.path / "model.safetensors"
    pruned = prune_and_finetune(weights, tmp_path / "pruned", rate=0.3, **how)
    assert pruned.image_shape == first.image_shape == (1, 12, 12)


def test_a_teacher_of_weights_in_a_run_sees_pictures_as_it_learnt_them(run: Run) -> None:
    data = load_data("digits")
    for teacher in (run.path, run.path / "model.safetensors"):
        taught = load_teacher(TrainConfig(model="resnet8", teacher=str(teacher)), data, torch.device("cpu"))
        assert taught is not None
        images, own = (
            next(iter(Batches(data.test, 32, mean=mean, std=std).epoch(0)))[0]
            for mean, std in ((data.mean, data.std), (run.mean, run.std))
        )
        torch.testing.assert_close(taught(images), run.load_model()(own), rtol=1e-3, atol=1e-4)
