"""Folders in the layouts that people have: which picture is in which split, under which label."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from slimnet.commands import evaluate_any
from slimnet.data import duplicates, load_data
from slimnet.data.listing import NO_TEST
from slimnet.errors import DataError
from slimnet.methods import Dense
from slimnet.training import Run, train
from slimnet.training.data import load_data_of

FER = ("surprise", "sad", "neutral", "happy", "fear", "disgust", "angry")


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


def filled(root: Path, splits: dict[str, int], classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    for split, count in splits.items():
        for label, name in enumerate(classes):
            for i in range(count):
                picture(root / split / name / f"{i}.png", 10 * label + i)
    return root


SPLITS = [
    ({"Training": 5, "PublicTest": 2, "PrivateTest": 3}, (10, 4, 6)),
    ({"train": 5, "validation": 2, "test": 3}, (10, 4, 6)),
    ({"TRAIN": 5, "Valid": 2, "Eval": 3}, (10, 4, 6)),
    ({"training": 5, "val": 2}, (10, 4, 4)),
    ({"data/train": 5, "data/val": 2, "data/test": 1}, (10, 4, 2)),
]


@pytest.mark.parametrize(("splits", "sizes"), SPLITS, ids=str)
def test_splits_in_the_usual_spellings(tmp_path: Path, splits: dict[str, int], sizes: tuple[int, ...]) -> None:
    data = load_data("folder", data_dir=filled(tmp_path, splits))
    assert tuple(len(split) for split in (data.train, data.val, data.test)) == sizes
    has_test = len(splits) == 3
    assert (data.tested_on, data.notes) == (("test", ()) if has_test else ("val", (NO_TEST,)))


def test_classes_alone_are_split_by_class_and_the_test_split_does_not_follow_the_seed(tmp_path: Path) -> None:
    filled(tmp_path, {".": 10})
    one, other = (load_data("folder", data_dir=tmp_path, val_fraction=0.25, seed=seed) for seed in (0, 1))
    assert [torch.bincount(split.labels).tolist() for split in (one.train, one.val, one.test)] == [[6, 6], [2, 2], [2, 2]]
    assert one.notes == ("the pictures are in no split: 4 of 20 are drawn for test, each class in its share",)
    splits = [(data.train, data.val, data.test) for data in (one, other)]
    names = [[split.names.names() if split.names else [] for split in three] for three in splits]
    assert sorted(name for split in names[0] for name in split) == sorted(
        f"{c}/{i}.png" for c in ("cat", "dog") for i in range(10)
    )
    assert names[0][2] == names[1][2] and names[0][1] != names[1][1]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load_data("folder", data_dir=filled(tmp_path, {".": 10}, ("bus", "train"))).classes == ("bus", "train")


def test_faces_have_the_official_labels_in_whatever_order(tmp_path: Path) -> None:
    filled(tmp_path, {"train": 3, "test": 1}, FER)
    for name in ("folder", "fer2013"):
        data = load_data(name, data_dir=tmp_path, val_fraction=0.34)
        assert data.classes == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
        values = {int(label): int(data.test.take(torch.tensor([i])).max()) for i, label in enumerate(data.test.labels)}
        assert values == {label: 10 * FER.index(name) for label, name in enumerate(data.classes)}


def test_pictures_of_fer2013_without_leaks_and_without_votes(tmp_path: Path) -> None:
    filled(tmp_path, {"train": 3, "val": 1, "test": 1}, FER)
    picture(tmp_path / "train" / "sad" / "0.png", 200)  # the others stand in validation and test, too
    data = load_data("fer2013", data_dir=tmp_path, data_options={"drop_leaked": True})
    assert torch.bincount(data.train.labels).tolist() == [2, 2, 2, 2, 3, 2, 2]
    assert data.notes[-1] == "6 training images left out that also stand in validation or test"
    assert len(load_data("fer2013", data_dir=tmp_path).train) == 21
    with pytest.raises(DataError, match=r"FER\+'s votes follow the order of rows in fer2013\.csv.* holds pictures instead"):
        load_data("fer2013", data_dir=tmp_path, data_options={"ferplus_votes": True})


def test_leaks_are_dropped_once_validation_is_drawn_and_a_run_goes_on(tmp_path: Path) -> None:
    """Each training picture is there twice: what is held out must not stand in what is left."""
    root = filled(tmp_path / "data", {"train": 10, "test": 1}, FER)
    for label, name in enumerate(FER):
        for i in range(10):
            picture(root / "train" / name / f"again{i}.png", 10 * label + i)
    data = load_data("fer2013", data_dir=root, data_options={"drop_leaked": True})
    found = duplicates(data)
    assert (found.val_in_train, found.test_in_train) == (0, 0)
    assert 90 < len(data.train) < 140 - len(data.val)
    options = {"data_options": {"drop_leaked": True}, "model": "vgg9_face", "batch_size": 32, "method": Dense()}
    run = train(out=tmp_path / "run", data="fer2013", data_dir=str(root), epochs=1, progress=False, **options)
    assert run.data["train"] == len(data.train)
    assert len(train(out=tmp_path / "run", resume=True, epochs=2, progress=False).metrics) == 2


def test_rows_that_pictures_do_not_have_are_said(tmp_path: Path) -> None:
    filled(tmp_path, {"train": 3, "val": 1, "test": 1}, FER)
    notes = load_data("fer2013", data_dir=tmp_path, data_options={"skip_bad_rows": True}).notes
    assert notes[0] == "`skip_bad_rows` does nothing here: these are pictures, which have no rows"
    assert notes[1].startswith("7 of 7 validation and 7 of 7 test images also stand in the training split")


def raf(root: Path) -> None:
    rows = []
    for i in range(1, 22):
        part = "train" if i <= 14 else "test"
        picture(root / "Image" / "aligned" / f"{part}_{i:05}_aligned.jpg", i)
        rows.append(f"{part}_{i:05}.jpg {i % 7 + 1}")
    (root / "EmoLabel").mkdir()
    (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(rows))


def affectnet(root: Path, array: Callable[[int], object] = lambda label: np.array(str(label))) -> None:
    for part, count in (("train_set", 16), ("val_set", 8)):
        for i in range(count):
            picture(root / part / "images" / f"{i}.jpg", i)
            (root / part / "annotations").mkdir(exist_ok=True)
            np.save(root / part / "annotations" / f"{i}_exp.npy", array(i % 8))  # type: ignore[arg-type]


def test_raf_db_by_its_list(tmp_path: Path) -> None:
    raf(tmp_path)
    data = load_data("folder", data_dir=tmp_path, val_fraction=0.5)
    assert sorted(data.classes) == ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    assert [len(split) for split in (data.train, data.val, data.test)] == [7, 7, 7]
    assert data.classes[data.test.labels[0]] == "fear"  # 15 % 7 + 1 = 2
    (tmp_path / "EmoLabel" / "list_patition_label.txt").write_text("../../etc/passwd 1\n")
    with pytest.raises(DataError, match="line 1: not a picture and a number from 1 to 7"):
        load_data("folder", data_dir=tmp_path)


def test_affectnet_by_its_annotations(tmp_path: Path) -> None:
    affectnet(tmp_path)
    data = load_data("folder", data_dir=tmp_path)
    assert (data.classes[0], data.classes[7], len(data.train), data.tested_on) == ("neutral", "contempt", 16, "val")
    np.save(tmp_path / "val_set" / "annotations" / "0_exp.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"0_exp\.npy cannot be read as one number: Object arrays cannot be loaded"):
        load_data("folder", data_dir=tmp_path)


BAD = [
    ({"train": 2, "other": 2}, "must hold val or test beside train; it holds other/, train/"),
    ({"val": 2, "test": 2}, "must hold train beside val; it holds test/, val/"),
]


@pytest.mark.parametrize(("splits", "message"), BAD, ids=str)
def test_what_is_no_layout_is_named(tmp_path: Path, splits: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data("folder", data_dir=filled(tmp_path, splits))


def test_nothing_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"or a folder a class; it holds notes\.txt\."):
        load_data("folder", data_dir=tmp_path)


def test_a_loop_of_links_is_no_loop(tmp_path: Path) -> None:
    filled(tmp_path, {"train": 5, "val": 2})
    (tmp_path / "train" / "cat" / "again").symlink_to(tmp_path)
    assert len(load_data("folder", data_dir=tmp_path).train) == 10


def test_splits_are_written_down_and_hold_when_files_are_added(tmp_path: Path) -> None:
    data_dir, out = filled(tmp_path / "data", {".": 20}), tmp_path / "run"
    options = {"data": "folder", "data_dir": str(data_dir), "epochs": 1, "batch_size": 8, "progress": False, "device": "cpu"}
    train(out=out, model="test_resume:small_net", method=Dense(), precision="fp32", **options)
    with (out / "splits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40 and {row["split"] for row in rows} == {"train", "val", "test"}
    filled(data_dir, {".": 30})
    run = Run.open(out, trust_code=True)
    found = run.dataset()
    assert found.test.names is not None
    assert sorted(found.test.names.names()) == sorted(row["path"] for row in rows if row["split"] == "test")
    assert "20 pictures are in no split of the run: left out" in found.notes
    assert evaluate_any(out, trust_code=True)[0].count == 8
    (out / "model.safetensors").unlink()
    again = train(out=out, resume=True, progress=False, trust_code=True)
    assert (again.result["test_images"], again.data["train"]) == (8, 29)
    (data_dir / rows[0]["path"]).unlink()
    with pytest.raises(DataError, match=r"1 pictures of the run are gone, .*: put them back, or name their folder; for other"):
        load_data_of(run.config.as_dict(), folder=out)
    with (out / "splits.csv").open("a") as file:
        file.write("../../etc/passwd,cat,train\n")
    with pytest.raises(DataError, match=r"pictures of the run are gone, \.\./\.\./etc/passwd among them"):
        load_data_of(run.config.as_dict(), folder=out)


def test_a_run_is_not_resumed_with_other_pictures(tmp_path: Path) -> None:
    """A folder with splits of its own: none was drawn, so it is the counts that tell."""
    data_dir, out = filled(tmp_path / "data", {"train": 8, "val": 2}), tmp_path / "run"
    options = {"data": "folder", "data_dir": str(data_dir), "epochs": 1, "batch_size": 8, "progress": False, "device": "cpu"}
    train(out=out, model="test_resume:small_net", method=Dense(), precision="fp32", **options)
    filled(data_dir, {"train": 9})
    with pytest.raises(DataError, match=r"since the run began: 16 images of train, now 18\. Put it back"):
        train(out=out, resume=True, epochs=2, progress=False, trust_code=True)


@pytest.mark.skipif(os.name != "posix", reason="names that other systems do not take")
def test_names_with_ends_of_lines_are_found_again(tmp_path: Path) -> None:
    data_dir, out = filled(tmp_path / "data", {".": 20}), tmp_path / "run"
    odd = ("two\n  lines.png", "carriage\rreturn.png", '"quoted",.png', " blank .png")
    for number, name in enumerate(odd):
        picture(data_dir / "cat" / name, 100 + number)
    options = {"data": "folder", "data_dir": str(data_dir), "epochs": 1, "batch_size": 8, "progress": False, "device": "cpu"}
    train(out=out, model="test_resume:small_net", method=Dense(), precision="fp32", **options)
    found = Run.open(out, trust_code=True).dataset()
    with (out / "splits.csv").open("a") as file:
        file.write("\n\n")  # as an editor leaves it
    assert len(Run.open(out, trust_code=True).dataset().train) == len(found.train)
    names = [name for split in (found.train, found.val, found.test) for name in split.names.names()]
    assert {f"cat/{name}" for name in odd} <= set(names)


def test_what_is_tested_without_a_test_split_is_said(tmp_path: Path) -> None:
    data_dir, out = filled(tmp_path / "data", {"train": 8, "val": 2}), tmp_path / "run"
    options = {"data": "folder", "data_dir": str(data_dir), "epochs": 1, "batch_size": 8, "progress": False, "device": "cpu"}
    train(out=out, model="test_resume:small_net", method=Dense(), precision="fp32", **options)
    said: list[str] = []
    result, _ = evaluate_any(out, trust_code=True, say=said.append)
    assert (result.split, result.count, said) == ("val", 4, [NO_TEST])
    assert not (out / "splits.csv").exists()
