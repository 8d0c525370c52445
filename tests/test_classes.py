"""Classes are matched by name wherever a network meets data, and a network and its data stay what they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from slimnet.data import Split, match_classes, natural_order, with_classes
from slimnet.data.load import load_data
from slimnet.errors import DataError
from slimnet.methods import Dense
from slimnet.pipeline import evaluate_any, export_run
from slimnet.pipeline.data import load_run_data
from slimnet.training import evaluate, train
from slimnet.training.norms import reestimate_norms
from slimnet.training.run import Run

SHADES = {"angry": 30, "Happy": 120, "sad": 220}


def folders(root: Path, names: dict[str, str]) -> Path:
    """A folder a class, of grey pictures that a network tells apart at once; ``names``: class → name of the folder."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 8)):
        for label, shade in SHADES.items():
            folder = root / part / names.get(label, label)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(shade - 25, shade + 25, (8, 8), dtype=np.int64).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def trained(root: Path, data: Path, **settings: object) -> Run:
    given = {"model": "resnet8", "data": "folder", "data_dir": str(data), "epochs": 4, "batch_size": 16, "lr": 0.05}
    given |= {"precision": "fp32", "channels_last": False, "augment": {"flip": False, "crop_padding": 0}, "method": Dense()}
    return train(out=root, progress=False, **given | settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path, Path]:
    """A run, its data, and the same pictures with the classes named otherwise, so that they sort in another order."""
    root = tmp_path_factory.mktemp("classes")
    data = folders(root / "data", {})
    renamed = folders(root / "renamed", {"angry": "Anger", "Happy": "happy", "sad": "SADNESS"})
    return trained(root / "run", data), data, renamed


def test_the_accuracy_does_not_depend_on_the_order_of_the_classes(made):
    run, data, renamed = made
    assert load_data("folder", data_dir=data).classes == ("Happy", "angry", "sad")
    assert load_data("folder", data_dir=renamed).classes == ("Anger", "SADNESS", "happy")
    own, _ = evaluate_any(run.path)
    said: list[str] = []
    other, classes = evaluate_any(run.path, data_dir=str(renamed), say=said.append)
    assert own.accuracy > 0.9 and other.accuracy == own.accuracy
    assert other.confusion == own.confusion and classes == run.classes
    assert said == [
        "folder has its classes in another order than " + str(run.path) + ": they are matched by name (Happy, angry, sad)"
    ]


def test_bundles_and_calibration_take_classes_by_name(made, tmp_path):
    run, _, renamed = made
    bundle = export_run(run.path, tmp_path / "bundle", data_dir=str(renamed))
    assert bundle.model["accuracy"]["slim"] == run.result["test_accuracy"]
    found, classes = evaluate_any(bundle.path, data_dir=str(renamed))
    assert found.accuracy == run.result["test_accuracy"] and classes == run.classes


def test_a_teacher_is_asked_by_name(made, tmp_path):
    from slimnet.training.inputs import load_config_data
    from slimnet.training.teacher import load_teacher

    run, _, renamed = made
    student = trained(tmp_path / "student", renamed, teacher=str(run.path))
    assert student.classes == ("Anger", "SADNESS", "happy")
    dataset = load_config_data(student.config)
    teacher = load_teacher(student.config, dataset, torch.device("cpu"))
    assert teacher is not None and teacher.order is not None
    from slimnet.data import Batches

    images, labels = next(iter(Batches(dataset.test, len(dataset.test), mean=dataset.mean, std=dataset.std).epoch(0)))
    assert float((teacher(images).argmax(1) == labels).float().mean()) == run.result["test_accuracy"]


def test_other_classes_are_refused_with_both_lists(made, tmp_path):
    run, *_ = made
    wrong = folders(tmp_path / "wrong", {"sad": "sober"})
    with pytest.raises(
        DataError, match=r"the classes of .* are Happy, angry, sad; folder has Happy, angry, sober: they must be the same"
    ):
        evaluate_any(run.path, data_dir=str(wrong))
    with pytest.raises(DataError, match="the classes of the teacher"):
        trained(tmp_path / "student", wrong, teacher=str(run.path))


def test_a_file_without_names_says_that_the_order_is_taken(made, tmp_path):
    run, data, _ = made
    bundle = export_run(run.path, tmp_path / "bundle")
    shutil.copy(bundle.path / "model.onnx", tmp_path / "alone.onnx")
    said: list[str] = []
    evaluate_any(tmp_path / "alone.onnx", data="folder", data_dir=str(data), say=said.append)
    assert said == [f"{tmp_path / 'alone.onnx'} does not name its classes: its outputs are taken in the order of folder"]


@pytest.mark.parametrize(
    ("wanted", "had", "found"),
    [
        (["a", "b"], ["a", "b"], [0, 1]),
        (["sad", "neutral"], ["Neutral", "sadness"], [1, 0]),
        (["very-happy", "not happy"], ["Not_Happy", "VERY HAPPY"], [1, 0]),
        (["10", "2"], ["2", "10"], [1, 0]),
        (["a", "A"], ["A", "a"], [1, 0]),  # case alone tells them apart
    ],
)
def test_names_are_matched(wanted, had, found):
    assert match_classes(wanted, had, who="a", where="b").tolist() == found


@pytest.mark.parametrize(
    ("wanted", "had"), [(["a", "b"], ["a", "c"]), (["a", "b"], ["a"]), (["a", "b"], ["a", "b", "c"]), (["a", "A"], ["a", "b"])]
)
def test_names_that_differ_are_refused(wanted, had):
    with pytest.raises(DataError, match="they must be the same"):
        match_classes(wanted, had, who="a", where="b")


def test_numbers_are_sorted_by_value():
    assert natural_order(["10", "9", "1", "02"]) == ["1", "02", "9", "10"]
    assert natural_order(["b10", "b9"]) == ["b10", "b9"]


def test_soft_labels_go_along():
    digits = load_data("digits")
    soft = nn.functional.one_hot(digits.train.labels, 10).float()
    from dataclasses import replace

    mixed = replace(digits, train=Split(digits.train.images, digits.train.labels, soft=soft))
    turned = with_classes(mixed, tuple(reversed(digits.classes)), who="a network")
    assert bool((turned.train.labels == 9 - digits.train.labels).all())
    assert turned.train.soft is not None and bool((turned.train.soft.argmax(1) == turned.train.labels).all())


@pytest.mark.parametrize("settings", [{"train_fraction": 0.25}, {"seed": 3, "val_fraction": 0.2}, {"image_size": 6}, {}])
def test_there_is_one_way_to_the_data_of_a_run(settings, tmp_path):
    run = train(model="resnet8", epochs=1, batch_size=64, method=Dense(), progress=False, out=tmp_path / "run", **settings)
    one, other = run.dataset(), load_run_data(run.config.as_dict(), recorded=run.data)
    for name in ("train", "val", "test"):
        first, second = getattr(one, name), getattr(other, name)
        assert len(first) == len(second) == run.data[name]
        assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    assert one.mean == other.mean == run.mean


def test_statistics_are_those_of_the_training_images():
    digits = load_data("digits", val_fraction=0.5)
    pixels = digits.train.images[: len(digits.train)].double() / 255
    assert digits.mean[0] == pytest.approx(float(pixels.mean()), rel=1e-6)
    assert load_data("digits", val_fraction=0.5, train_fraction=0.2).mean == digits.mean


@pytest.mark.parametrize("fails", [False, True])
def test_evaluating_leaves_a_network_as_it_was(fails):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(4 * 36, 10))
    model.train()
    model[1].eval()  # a frozen norm
    modes = [module.training for module in model.modules()]
    digits = load_data("digits")
    split = load_data("digits", image_size=9).test if fails else digits.test
    try:
        evaluate(model, split, mean=digits.mean, std=digits.std)
    except DataError:
        assert fails
    assert [module.training for module in model.modules()] == modes


def batches_of(*sizes_and_means):
    return [(torch.full((size, 1), float(mean)), torch.zeros(size)) for size, mean in sizes_and_means]


@pytest.mark.parametrize(
    ("batches", "mean"),
    [
        (((128, 0), (2, 10)), 20 / 130),
        (((128, 0), (1, 10)), 0.0),  # a single image has no variance
        (((64, 1), (64, 3), (32, 2)), 2.0),
        (((1, 5),), 7.0),  # nothing to estimate from: as it was
    ],
)
def test_norms_are_estimated_by_images(batches, mean):
    norm = nn.BatchNorm1d(1)
    nn.init.constant_(norm.running_mean, 7.0)
    reestimate_norms(norm, batches_of(*batches))
    assert float(norm.running_mean) == pytest.approx(mean, abs=1e-6)
    assert norm.training and norm.momentum == 0.1


def test_a_training_is_not_lost_to_a_last_batch_of_one(tmp_path):
    """The digits that are left for training make 431 · 3 + 1 images."""
    from slimnet.methods import OneShot

    run = train(
        model="test_classes:with_a_flat_norm", epochs=1, batch_size=431, method=OneShot(0.5), progress=False, out=tmp_path / "run"
    )
    assert len(run.dataset().train) % 431 == 1
    assert run.result["norms_reestimated"] in (True, False)


def with_a_flat_norm(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8),
        nn.Linear(8, num_classes),
    )  # fmt: skip
