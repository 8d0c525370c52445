"""Classes are matched by name, wherever an output of a network meets a label of a data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from command import slimnet_cli
from slimnet.commands import PrecisionSettings, evaluate_any, export_run
from slimnet.commands.calibration import calibrate
from slimnet.data import Dataset, Split, load_data, recorded_classes
from slimnet.errors import DataError, FileFormatError, ModelError
from slimnet.models import build_model, load_weights
from slimnet.training import Run, TrainConfig, train
from slimnet.training.data import as_recorded, load_config_data
from slimnet.training.network import order_head, permute_head
from slimnet.training.teacher import load_teacher

NAMES = ("angry", "happy", "neutral")  # what the network was trained on, in this order


RENAMED = {"angry": "anger", "happy": "Happiness", "neutral": "NORMAL"}  # sorted: Happiness, NORMAL, anger


SETTINGS: dict[str, Any] = {
    "model": "resnet8", "data": "folder", "epochs": 4, "batch_size": 16, "lr": 0.05, "precision": "fp32", "channels_last": False,
    "augment": {"flip": False, "crop_padding": 0}, "device": "cpu", "progress": False,
}  # fmt: skip


# --- a real network, and the same pictures in folders of other names ------------------------------------------------------


def pictures(folder: Path, names: Callable[[str], str] = str, *, leave_out: str = "") -> Path:
    """Pictures of 9×9, a bright third for each class, the same every time; the folders are named by ``names``."""
    for part, count in (("train", 24), ("val", 8), ("test", 12)):
        rng = np.random.default_rng(len(part))
        for label, name in enumerate(NAMES):
            for i in range(count):
                noise = rng.integers(0, 90, (9, 9), dtype=np.uint8)
                noise[:, 3 * label : 3 * label + 3] += np.uint8(60 + 40 * (i % 2))
                if name != leave_out:
                    path = folder / part / names(name) / f"{i:02}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(noise).save(path)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures; sorted, the classes are in another order."""
    return pictures(tmp_path_factory.mktemp("renamed"), RENAMED.__getitem__)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("others"), lambda name: f"my {name}")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    found = train(out=tmp_path_factory.mktemp("run") / "run", data_dir=str(data), **SETTINGS)
    assert found.classes == NAMES
    assert found.result["test_accuracy"] > 0.6  # guessing would be 0.33
    return found


@pytest.fixture(scope="module")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_run(run.path, tmp_path_factory.mktemp("bundle") / "bundle").path


@pytest.mark.parametrize("what", ["run", "bundle", "onnx"])
def test_evaluation_is_the_same_whatever_the_order(
    what: str, run: Run, bundle: Path, data: Path, renamed: Path, others: Path, tmp_path: Path
) -> None:
    subject = {"run": run.path, "bundle": bundle, "onnx": bundle / "model.onnx"}[what]
    said: list[str] = []
    right, names = evaluate_any(subject, data="folder", data_dir=str(data), say=said.append)
    assert (names, said) == (NAMES, [])
    if what != "onnx":  # it does not know the mean and the deviation
        assert right.accuracy == run.result["test_accuracy"]
    found, names = evaluate_any(subject, data="folder", data_dir=str(renamed), say=said.append)
    assert (found.accuracy, found.confusion, names) == (right.accuracy, right.confusion, NAMES)
    assert found.loss == pytest.approx(right.loss, rel=1e-4)
    assert len(said) == 1
    assert "in another order: matched by name (happy = Happiness, neutral = NORMAL, angry = anger)" in said[0]
    with pytest.raises(DataError, match="angry, happy, neutral; folder has my angry, my happy, my neutral"):
        evaluate_any(subject, data="folder", data_dir=str(others))
    part, names = evaluate_any(
        subject, data="folder", data_dir=str(pictures(tmp_path, RENAMED.__getitem__, leave_out="happy")), say=said.append
    )
    assert names == NAMES
    assert part.per_class == (right.per_class[0], None, right.per_class[2])
    assert "folder has no images of happy" in said[1]


def test_the_command_says_it_on_stderr(run: Run, renamed: Path) -> None:
    done = slimnet_cli("evaluate", run.path, "--data-dir", renamed, "--json")
    assert done.status == 0
    assert done.json["accuracy"] == run.result["test_accuracy"]
    assert done.json["classes"] == list(NAMES)
    assert "another order" in done.err


def test_an_onnx_file_without_names(bundle: Path, data: Path, tmp_path: Path) -> None:
    proto = onnx.load(bundle / "model.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "bare.onnx")
    said: list[str] = []
    evaluate_any(tmp_path / "bare.onnx", data="folder", data_dir=str(data), say=said.append)
    assert said == [
        f"{tmp_path / 'bare.onnx'} does not name its classes: taken to be those of folder, in this order: {', '.join(NAMES)}"
    ]
    with pytest.raises(DataError, match="outputs"):
        evaluate_any(tmp_path / "bare.onnx", data="folder", data_dir=str(pictures(tmp_path / "two", leave_out="happy")))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([*NAMES, "sad"], r"x\.onnx has 3 outputs, and names 4 classes"),
        ([*NAMES[:2], 1], "`slimnet.labels` in its metadata must be a list of names"),
        ({"0": "angry"}, "`slimnet.labels` in its metadata must be a list of names"),
        ([], "`slimnet.labels` in its metadata must be a list of names"),
    ],
)
def test_an_onnx_file_of_wrong_names(labels: object, message: str, bundle: Path, data: Path, tmp_path: Path) -> None:
    proto = onnx.load(bundle / "model.onnx")
    onnx.helper.set_model_props(proto, {"slimnet.labels": json.dumps(labels)})
    onnx.save(proto, tmp_path / "x.onnx")
    with pytest.raises(FileFormatError, match=message):
        evaluate_any(tmp_path / "x.onnx", data="folder", data_dir=str(data))


def test_export_and_calibration_go_by_name(run: Run, bundle: Path, renamed: Path, tmp_path: Path) -> None:
    said: list[str] = []
    made = export_run(
        run.path,
        tmp_path / "bundle",
        data_dir=renamed,
        precisions=PrecisionSettings(("int8",), max_drop=1.0, calibration=16),
        say=said.append,
    )
    assert made.model["labels"] == list(NAMES)
    assert made.report["accuracy"] == json.loads((bundle / "report.json").read_text())["accuracy"]
    int8 = made.model["precisions"]["int8"]
    assert int8["validation"]["fp32_accuracy"] > 0.6
    assert int8["accuracy"]["value"] > 0.6
    assert sum("another order" in line for line in said) == 1


def labels_of(split: Split) -> dict[bytes, int]:
    images = split.take(torch.arange(len(split)))
    return {image.numpy().tobytes(): int(label) for image, label in zip(images, split.labels, strict=True)}


def test_a_run_keeps_its_order_mean_and_deviation(run: Run, renamed: Path, others: Path, tmp_path: Path) -> None:
    found = run.dataset(data_dir=renamed)
    own = run.dataset()
    assert (found.classes, found.mean, found.std) == (NAMES, run.mean, run.std)
    for name in ("train", "val", "test"):  # the same picture has the same label
        assert labels_of(getattr(found, name)) == labels_of(getattr(own, name)), name
    assert as_recorded(own, {**run.data, "mean": [0.1], "std": [0.7]}, who="it").mean == (0.1,)
    assert as_recorded(own, {**run.data, "mean": [0.1], "std": [0.7]}, who="it").std == (0.7,)
    with pytest.raises(DataError, match="angry, happy, neutral; folder has angry, neutral: the data has changed"):
        run.dataset(data_dir=pictures(tmp_path, leave_out="happy"))
    with pytest.raises(DataError, match="my neutral: the data has changed since it was trained"):
        run.dataset(data_dir=others)
    with pytest.raises(DataError, match="was trained on images of 3 channels, those of folder have 1"):
        as_recorded(own, {**run.data, "mean": [0, 0, 0]}, who="it")


# --- teachers, first weights, baselines, gradients ------------------------------------------------------------------------


def dataset(folder: Path, **settings: Any) -> tuple[TrainConfig, Dataset]:
    config = TrainConfig(**{**{k: v for k, v in SETTINGS.items() if k != "progress"}, "data_dir": str(folder), **settings})
    return config, load_config_data(config)


def test_a_teacher_is_asked_by_name(run: Run, data: Path, renamed: Path, others: Path) -> None:
    said: list[str] = []
    config, own = dataset(renamed, teacher=str(run.path))
    teacher = load_teacher(config, own, torch.device("cpu"), said.append)
    images = torch.randn(4, *run.image_shape)
    assert teacher is not None
    assert own.classes == ("Happiness", "NORMAL", "anger")
    scaled = torch.addcmul(teacher.shift, images, teacher.scale)
    torch.testing.assert_close(teacher(images), run.load_model()(scaled)[:, [1, 2, 0]], rtol=1e-3, atol=1e-4)
    assert "another order" in said[0]
    same = load_teacher(*dataset(data, teacher=str(run.path)), torch.device("cpu"))
    assert same is not None
    assert same.outputs is None
    with pytest.raises(ModelError, match="was trained for classes angry, happy, neutral; folder has my angry"):
        load_teacher(*dataset(others, teacher=str(run.path)), torch.device("cpu"))


def test_a_teacher_that_knows_more(run: Run, tmp_path: Path) -> None:
    config, own = dataset(pictures(tmp_path, leave_out="angry"), teacher=str(run.path))
    teacher = load_teacher(config, own, torch.device("cpu"))
    assert teacher is not None
    assert teacher(torch.randn(4, *run.image_shape)).shape == (4, 2)


def test_a_teacher_of_weights_alone(run: Run, renamed: Path, tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "weights.safetensors").write_bytes((run.path / "model.safetensors").read_bytes())
    config, own = dataset(renamed, teacher=str(tmp_path / "weights.safetensors"))
    teacher = load_teacher(config, own, torch.device("cpu"), said.append)
    assert teacher is not None
    assert teacher.outputs is None
    assert "does not name its classes: taken to be those of folder, in this order: Happiness, NORMAL, anger" in said[0]
    inside = load_teacher(replace(config, teacher=str(run.path / "model.safetensors")), own, torch.device("cpu"))
    assert inside is not None  # beside its config.json it has names
    assert inside.outputs is not None


def test_first_weights_come_in_the_order_of_the_data(run: Run, renamed: Path, tmp_path: Path) -> None:
    """Trained on from a run with so small a step that it stays what it was: only the order of the outputs has changed."""
    again = train(
        out=tmp_path / "run", init=str(run.path / "model.safetensors"), data_dir=str(renamed),
        **SETTINGS | {"epochs": 1, "lr": 1e-9, "warmup_epochs": 0, "method": run.method.__class__.from_dict({"name": "dense"})},
    )  # fmt: skip
    assert again.classes == ("Happiness", "NORMAL", "anger")
    wanted = [run.result["test_confusion"][i][j] for i in (1, 2, 0) for j in (1, 2, 0)]
    got = [count for row in again.result["test_confusion"] for count in row]
    assert sum(abs(a - b) for a, b in zip(got, wanted, strict=True)) <= 8  # the norms saw another epoch


def test_first_weights_for_other_classes(run: Run, others: Path, tmp_path: Path) -> None:
    weights, example = run.path / "model.safetensors", run.example_input()
    with pytest.raises(DataError, match=r"take the file out of its run, .*, to start from it nonetheless"):
        order_head(run.load_model(), weights, ("x", "y", "z"), example, whose="data")
    said: list[str] = []
    order_head(run.load_model(), weights, ("Happiness", "NORMAL", "anger"), example, whose="data", say=said.append)
    assert "data has the classes of the network in" in said[0] and "another order" in said[0]
    with pytest.raises(DataError, match="my happy"):
        train(out=tmp_path / "run", init=str(weights), data_dir=str(others), **SETTINGS)
    assert not (tmp_path / "run").exists()


def test_heads_are_reordered_exactly_or_not_at_all() -> None:
    torch.manual_seed(0)
    model, example = build_model("resnet8", num_classes=3, in_channels=1).eval(), torch.randn(4, 1, 8, 8)
    before = model(example)
    permute_head(model, (2, 0, 1), example, who="it")
    torch.testing.assert_close(model(example), before[:, [2, 0, 1]])

    class Turned(torch.nn.Module):
        """Its last layer does not make the outputs one by one."""

        def __init__(self) -> None:
            super().__init__()
            self.last = torch.nn.Linear(64, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(x.flatten(1)).cumsum(1)

    turned = Turned()
    kept = turned.last.weight.clone()
    with pytest.raises(ModelError, match="its last layer cannot be reordered"):
        permute_head(turned, (2, 0, 1), example, who="it")
    assert torch.equal(turned.last.weight, kept)


def test_a_dense_baseline_in_another_order(run: Run, bundle: Path, renamed: Path, others: Path, tmp_path: Path) -> None:
    dense = SETTINGS | {"epochs": 2, "method": run.method.__class__.from_dict({"name": "dense"})}
    other = train(out=tmp_path / "dense", data_dir=str(renamed), **dense)
    said: list[str] = []
    made = export_run(run.path, tmp_path / "bundle", dense=other.path, say=said.append)
    assert any(f"{run.path} has the classes of {other.path} in another order" in line for line in said)
    assert made.report["accuracy"]["dense"] == other.result["test_accuracy"]
    wrong = train(out=tmp_path / "wrong", data_dir=str(others), **dense | {"epochs": 1})
    with pytest.raises(DataError, match=r"my angry, my happy, my neutral; .*: give a dense run of the same"):
        export_run(run.path, tmp_path / "again", dense=wrong.path)
    with pytest.raises(DataError, match="my happy"):
        export_run(run.path, tmp_path / "again", dense=wrong.path / "model.safetensors")


def test_gradients_are_taken_by_name(run: Run, data: Path, renamed: Path) -> None:
    gradients = []
    for folder, classes in ((data, NAMES), (renamed, NAMES), (renamed, None)):
        model, said = run.load_model(), list[str]()
        calibrate(
            model, run.example_input(), "gradients", "stream", "folder", str(folder), about={"classes": classes}, say=said.append
        )
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]))
        assert bool(said) == (folder == renamed)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(gradients[0], gradients[2], rtol=1e-1, atol=1e-2)


def test_names_stay_with_pruned_weights(run: Run, tmp_path: Path) -> None:
    assert recorded_classes(run.path / "model.safetensors") == NAMES
    done = slimnet_cli(
        *(
            "prune",
            run.path / "model.safetensors",
            "--model",
            "resnet8",
            "--rate",
            "0.3",
            "--image-size",
            "9",
            "--out",
            tmp_path / "p",
        )
    )
    assert done.status == 0, done.err
    assert recorded_classes(tmp_path / "p" / "model.safetensors") == NAMES
    assert recorded_classes(tmp_path / "elsewhere.pth") is None
    for odd in ('{"a": 1}', '["a", 1]', "[]", '"ab"'):  # of somebody else
        (tmp_path / "config.json").write_text(f'{{"data": "imagenet", "classes": {odd}}}')
        assert recorded_classes(tmp_path / "elsewhere.pth") is None


def test_pruned_and_cut_weights_are_asked_by_name(run: Run, data: Path, renamed: Path, tmp_path: Path) -> None:
    network = ("--model", "resnet8", "--image-size", 9)
    taylor = ("--criterion", "taylor", "--rate", 0.3, "--data", "folder", "--data-dir", renamed)
    done = slimnet_cli("prune", run.path / "model.safetensors", *network, *taylor, "--out", tmp_path / "p")
    assert done.status == 0, done.err
    assert "folder has the classes of the checkpoint in another order" in done.err
    done = slimnet_cli("slim", tmp_path / "p" / "model.safetensors", *network, "--out", tmp_path / "s")
    assert done.status == 0, done.err
    right, _ = evaluate_any(tmp_path / "s", data="folder", data_dir=str(data))
    found, names = evaluate_any(tmp_path / "s", data="folder", data_dir=str(renamed))
    assert (found.confusion, names) == (right.confusion, NAMES)


# --- numbers as names -----------------------------------------------------------------------------------------------------


def test_numbered_folders_and_an_older_run(tmp_path: Path) -> None:
    """A run from before numbers were sorted as such has its classes as text sorts them: its outputs still find their folders."""
    for part in ("train", "test"):
        for number in range(11):
            (tmp_path / part / str(number)).mkdir(parents=True)
            for i in range(4):
                Image.new("L", (8, 8), 20 * number + i).save(tmp_path / part / str(number) / f"{i}.png")
    found = load_data("folder", data_dir=tmp_path, val_fraction=0.25)
    assert found.classes == tuple(map(str, range(11)))
    old = sorted(found.classes)
    assert old[2] == "10"
    kept = as_recorded(found, {"classes": old, "mean": [0.5], "std": [0.2]}, who="an old run")
    assert kept.classes == tuple(old)
    brightness = kept.test.take(torch.arange(len(kept.test))).float().mean((1, 2, 3))
    assert all(int(kept.classes[label]) == int(value) // 20 for label, value in zip(kept.test.labels, brightness, strict=True))


def test_weights_load_as_they_are_outside_of_a_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes((run.path / "model.safetensors").read_bytes())
    model = run.build_model()
    load_weights(model, tmp_path / "weights.safetensors")
    order_head(model, tmp_path / "weights.safetensors", ("x", "y", "z"), run.example_input(), whose="data")
    assert torch.equal(model.eval()(run.example_input()), run.load_model()(run.example_input()))
