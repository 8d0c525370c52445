"""FER2013: files of every layout, damaged files, duplicates, the real data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from skips import skip_without
from slimnet.data import (
    Dataset,
    Duplicates,
    Split,
    class_weights,
    duplicates,
    ferplus_votes,
    load_data,
)
from slimnet.data._lines import LIMIT
from slimnet.errors import ArgumentError, DataError, SlimnetError

USAGES = ["Training"] * 14 + ["PublicTest"] * 7 + ["PrivateTest"] * 7


def faces(count: int = 28) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, 2304), dtype=np.uint8)


def text(pixels: Any) -> str:
    return " ".join(map(str, pixels))


def rows(images: Any = None) -> list[str]:
    images = faces() if images is None else images
    return [f"{i % 7},{text(image)},{usage}" for i, (image, usage) in enumerate(zip(images, USAGES, strict=True))]


def write(folder: Path, lines: list[str], name: str = "fer2013.csv", header: str = "emotion,pixels,Usage") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text("\n".join([header, *lines]) + "\n")
    return folder / name


def pixels(split: Split) -> Tensor:
    return split.take(torch.arange(len(split))).flatten(1)


def copies(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".slimnet" in path.parts and path.is_file()]


# --- layouts ---


def whole(folder: Path) -> None:
    write(folder, rows())


def below(folder: Path) -> None:
    write(folder / "fer2013", rows())


def icml(folder: Path) -> None:
    lines = [",".join([r.split(",")[0], r.split(",")[2], r.split(",")[1]]) for r in rows()]
    write(folder, lines, "icml_face_data.csv", "emotion, Usage, pixels")


def parts(folder: Path) -> None:
    for name, part in (("train", rows()[:14]), ("val", rows()[14:21]), ("test", rows()[21:])):
        write(folder, [line.rpartition(",")[0] for line in part], f"{name}.csv", "emotion,pixels")


def windows_file(folder: Path) -> None:
    lines = [r.replace(",", ',"', 1).replace(",T", '",T').replace(",P", '",P') for r in rows()]
    (folder / "fer2013.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(["Emotion,Pixels,Usage", *lines, "", ""]).encode())


@pytest.mark.parametrize("layout", [whole, below, icml, parts, windows_file])
def test_every_layout_gives_the_same_faces(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    layout(tmp_path)
    fer = load_data("fer2013", data_dir=tmp_path, val_fraction=0.5)
    assert [len(split) for split in (fer.train, fer.val, fer.test)] == [14, 7, 7]
    assert (fer.image_shape, fer.classes[3], fer.notes) == ((1, 48, 48), "happy", ())
    assert fer.val.labels.tolist() == list(range(7))
    assert np.array_equal(torch.cat([pixels(s) for s in (fer.train, fer.val, fer.test)]).numpy(), faces())
    assert fer.augment is not None
    assert fer.augment.rotate > 0


def test_resized_faces_shift_as_far_in_parts_of_the_image(tmp_path: Path) -> None:
    whole(tmp_path)
    fer = load_data("fer2013", data_dir=tmp_path, image_size=96)
    assert fer.image_shape == (1, 96, 96)
    assert fer.augment is not None
    assert fer.augment.crop_padding == 8


# --- damaged files ---


def row(pixels: Any = None, label: object = 3, usage: str = "Training") -> str:
    return f"{label},{text(faces(1)[0] if pixels is None else pixels)},{usage}"


def with_word(word: str) -> str:
    return row([*faces(1)[0][:6], word, *faces(1)[0][7:]])


BAD_ROWS: list[tuple[str, str]] = [
    (row()[:4000], "line 6: 2 columns, the header has 3"),
    (row()[:4000].rstrip() + ",Training", r"line 6: 1,\d\d\d pixels, not 2,304"),
    (row(faces(1)[0][1:]), "line 6: 2,303 pixels, not 2,304"),
    (row([*faces(1)[0], 7]), "line 6: 2,305 pixels, not 2,304"),
    (row([]), "line 6: 0 pixels, not 2,304"),
    (with_word("256"), "line 6: pixel 7 is '256', not a whole number from 0 to 255"),
    (with_word("-1"), "line 6: pixel 7 is '-1', not a whole number"),
    (with_word("1e3"), "line 6: pixel 7 is '1e3'"),
    (with_word("1.5"), "line 6: pixel 7 is '1.5'"),
    (with_word("12345678901234567890123456789"), r"line 6: pixel 7 is '123456789012345678901234'…, not"),
    (with_word("\u0663"), r"line 6: pixel 7 is '\\xd9\\xa3'"),
    (with_word("nan"), "line 6: pixel 7 is 'nan'"),
    (row(label=9), "line 6: label '9' is not a whole number from 0 to 6"),
    (row(label=-1), "line 6: label '-1'"),
    (row(label=""), "line 6: label ''"),
    (row(label="3.5"), r"line 6: label '3\.5'"),
    (row(label="\x1b[31mred"), r"line 6: label '\\x1b\[31mred'"),
    (row(usage="training"), "line 6: Usage 'training' is none of Training, PublicTest, PrivateTest"),
    ("3," + "7 " * LIMIT + ",Training", "line 6: longer than 65,536 bytes, which no row of FER2013 is"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_ROWS)
def test_a_bad_row_stops_with_file_and_line_or_is_counted(tmp_path: Path, bad: str, message: str) -> None:
    lines = rows()
    path = write(tmp_path, [*lines[:4], bad, *lines[4:]])
    with pytest.raises(DataError, match=message) as caught:
        load_data("fer2013", data_dir=tmp_path)
    assert str(caught.value).startswith(f"{path}, line 6: ")
    assert str(caught.value).endswith("(--skip-bad-rows leaves such rows out).")
    assert "\n" not in str(caught.value)
    assert not copies(tmp_path)
    for _ in range(2):  # parsed, then from the copy
        fer = load_data("fer2013", data_dir=tmp_path, data_options={"skip_bad_rows": True})
        assert np.array_equal(pixels(fer.train).numpy(), faces()[:14])
        assert fer.notes[0].startswith(f"1 bad rows left out; the first: {path}, line 6: ")
        assert fer.as_dict()["notes"] == list(fer.notes)
    with pytest.raises(DataError, match=message):  # the copy does not hide them
        load_data("fer2013", data_dir=tmp_path)


def utf16(path: Path) -> None:
    path.write_text("\n".join(["emotion,pixels,Usage", *rows()]), encoding="utf-16")


BAD_FILES: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.write_bytes(b""), "line 1: the file is empty"),
    (lambda path: path.write_bytes(b"\n\n"), "line 1: the file is empty"),
    (lambda path: path.write_text("emotion,pixels,Usage\n"), "holds no good row"),
    (lambda path: path.write_text("emotion,Usage\n3,Training\n"), "line 1: no column 'pixels'; found: 'emotion,Usage'"),
    (lambda path: path.write_text("pixels\n" + text(faces(1)[0])), "line 1: no column 'emotion'"),
    (utf16, r"line 1: not ASCII or UTF-8 text \(it looks like UTF-16\)"),
    (lambda path: path.write_bytes(b"1" * 5_000_000), "line 1: longer than 65,536 bytes"),
    (lambda path: path.write_bytes(bytes(range(14, 256)) * 9), "line 1: no column 'emotion'"),
]


@pytest.mark.parametrize(("damage", "message"), BAD_FILES)
@pytest.mark.parametrize("skip", [False, True])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, damage: Callable[[Path], object], message: str, skip: bool) -> None:
    path = tmp_path / "fer2013.csv"
    damage(path)
    with pytest.raises(DataError, match=message) as caught:
        load_data("fer2013", data_dir=tmp_path, data_options={"skip_bad_rows": skip})
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not copies(tmp_path)


def test_only_bad_rows(tmp_path: Path) -> None:
    write(tmp_path, [row(label=9)] * 30)
    with pytest.raises(DataError, match=r"holds no good row; 30 bad, the first: .*line 2: label '9'"):
        load_data("fer2013", data_dir=tmp_path, data_options={"skip_bad_rows": True})
    assert not copies(tmp_path)


def test_a_huge_line_costs_no_memory(tmp_path: Path) -> None:
    """50 MB of one line, after good rows and before others: less than a tenth of that."""
    path = write(tmp_path, rows())
    with path.open("ab") as file:
        for _ in range(50):
            file.write(b"1 " * 500_000)
        file.write(b"\n" + rows()[3].encode())
    import tracemalloc

    tracemalloc.start()
    fer = load_data("fer2013", data_dir=tmp_path, data_options={"skip_bad_rows": True})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(fer.train) == 15
    assert peak < path.stat().st_size / 10


BAD_REQUESTS: list[tuple[str, dict[str, Any], type[SlimnetError], str]] = [
    ("fer2013", {"data_dir": None}, DataError, r"fer2013 needs a data folder: the one that holds fer2013.csv"),
    ("fer2013", {"data_dir": "/nowhere"}, DataError, "looked for fer2013.csv, icml_face_data.csv, or train.csv, val.csv"),
    ("fer2013", {"data_options": {"drop": True}}, ArgumentError, "no option 'drop'; known: drop_leaked, skip_bad_rows, ferplus"),
    ("fer2013", {"data_options": {"drop_leaked": 1}}, ArgumentError, "`drop_leaked` must be true or false, got 1"),
    (
        "ferplus",
        {"data_options": {"ferplus_votes": True}},
        ArgumentError,
        r"no option 'ferplus_votes' \(it is for fer2013\); known: dr",
    ),
    (
        "fer2013",
        {"data_options": {"without_contempt": True}},
        ArgumentError,
        r"no option 'without_contempt' \(it is for ferplus\); know",
    ),
    (
        "digits",
        {"data_dir": None, "data_options": {"drop_leaked": True}},
        ArgumentError,
        r"'drop_leaked' \(it is for fer2013, ferplus\); known: none",
    ),
]


@pytest.mark.parametrize(("name", "options", "kind", "message"), BAD_REQUESTS)
def test_bad_requests(tmp_path: Path, name: str, options: dict[str, Any], kind: type[SlimnetError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        load_data(name, **{"data_dir": tmp_path, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("part", "missing"), [(slice(0, 14), "PublicTest"), (slice(14, 28), "Training")])
def test_a_split_without_rows_is_said(tmp_path: Path, part: slice, missing: str) -> None:
    write(tmp_path, rows()[part])
    with pytest.raises(DataError, match=f"fer2013.csv holds no row for {missing}"):
        load_data("fer2013", data_dir=tmp_path)


# --- duplicates, class weights ---


def test_duplicates_are_found_and_leaked_images_left_out(tmp_path: Path) -> None:
    images = faces()
    images[7] = images[0]  # twice in train
    images[14] = images[1]  # train and validation
    images[21] = images[22] = images[2]  # train and test, test twice
    images[20] = images[23]  # validation and test
    images[10] = 9  # constant
    write(tmp_path, rows(images))
    fer = load_data("fer2013", data_dir=tmp_path)
    assert duplicates(fer) == Duplicates(in_train=1, val_in_train=1, test_in_train=2, val_in_test=1, constant=1)
    assert fer.notes == (
        "1 of 7 validation and 2 of 7 test images also stand in the training split (--drop-leaked leaves them out of it)",
    )
    clean = load_data("fer2013", data_dir=tmp_path, data_options={"drop_leaked": True})
    assert np.array_equal(pixels(clean.train).numpy(), np.delete(images[:14], [1, 2], axis=0))
    assert duplicates(clean) == Duplicates(in_train=1, val_in_train=0, test_in_train=0, val_in_test=1, constant=1)
    assert clean.notes[-1] == "2 training images left out that also stand in validation or test"
    assert (clean.mean, clean.std) == (fer.mean, fer.std)


def test_class_weights() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    assert class_weights(labels).tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert class_weights(labels, power=0).tolist() == [1, 1, 1]
    assert float(class_weights(labels, power=0.5)[labels].mean()) == pytest.approx(1)
    for options, message in (({"num_classes": 4}, "there is no 3"), ({"power": 2.0}, "must be in")):
        with pytest.raises(ArgumentError, match=message):
            class_weights(labels, **options)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="there is no 0"):
        class_weights(labels[:0])


# --- the real data ---


@pytest.fixture(scope="module")
def fer(data_dir: Path) -> Dataset:
    if not (data_dir / "fer2013" / "fer2013.csv").is_file():
        skip_without("data")
    return load_data("fer2013", data_dir=data_dir)


def test_real_fer2013_has_the_published_sizes_and_quirks(fer: Dataset) -> None:
    assert [len(split) for split in (fer.train, fer.val, fer.test)] == [28709, 3589, 3589]
    assert torch.bincount(fer.train.labels).tolist() == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    assert duplicates(fer) == Duplicates(in_train=1236, val_in_train=280, test_in_train=288, val_in_test=46, constant=12)


def test_real_fer2013_starts_from_its_copy(fer: Dataset, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slimnet.data.sets.fer2013.read_rows", None)  # nothing is parsed
    again = load_data("fer2013", data_dir=data_dir)
    assert torch.equal(pixels(again.train), pixels(fer.train))


def test_real_fer2013_without_leaks(fer: Dataset, data_dir: Path) -> None:
    clean = load_data("fer2013", data_dir=data_dir, data_options={"drop_leaked": True})
    found = duplicates(clean)
    assert len(clean.train) == 28006
    assert (found.val_in_train, found.test_in_train) == (0, 0)


def test_real_ferplus(fer: Dataset, data_dir: Path) -> None:
    plus = load_data("ferplus", data_dir=data_dir)
    assert [len(split) for split in (plus.train, plus.val, plus.test)] == [25060, 3199, 3153]
    assert plus.val.soft is not None
    assert torch.equal(plus.val.soft.argmax(1), plus.val.labels)
    seven = load_data("ferplus", data_dir=data_dir, data_options={"without_contempt": True})
    assert [len(split) for split in (seven.train, seven.val, seven.test)] == [24941, 3186, 3137]
    voted = load_data("fer2013", data_dir=data_dir, data_options={"ferplus_votes": True, "drop_leaked": True})
    assert len(voted.train) == 28006
    assert voted.train.soft is not None
    own = voted.train.soft.gather(1, voted.train.labels[:, None])
    assert 0.5 <= float(own.min()) < float(own.mean()) == pytest.approx(0.807, abs=0.001)
    votes, usage = ferplus_votes(data_dir / "fer2013" / "fer2013new.csv")
    assert torch.bincount(usage).tolist() == [28709, 3589, 3589]
    assert int(votes.sum(1).max()) == 10


# --- the command line ---


@pytest.mark.parametrize(("bad", "message"), [(row(faces(1)[0][1:]), "2,303 pixels"), (row()[:4000], "2 columns")])
def test_train_refuses_a_bad_row_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str, message: str) -> None:
    from slimnet_cli import _run

    path = write(tmp_path, [*rows(), bad])
    given = ["train", "--model", "resnet8", "--data", "fer2013", "--data-dir", str(tmp_path), "--out", str(tmp_path / "run")]
    assert _run(given) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"slimnet: error: {path}, line 30: {message}")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert not copies(tmp_path)


def test_train_takes_the_options_and_says_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from slimnet_cli import _run

    images = faces()
    images[14] = images[1]
    write(tmp_path, [*rows(images), row(label=9)])
    given = ["train", "--model", "resnet8", "--data", "fer2013", "--data-dir", str(tmp_path), "--out", str(tmp_path / "run")]
    options = ["--method", "dense", "--epochs", "1", "--batch-size", "7", "--precision", "fp32", "--device", "cpu"]
    assert _run([*given, *options, "--skip-bad-rows", "--drop-leaked"]) == 0
    err = capsys.readouterr().err
    assert "1 bad rows left out; the first: " in err
    assert "1 training images left out that also stand in validation or test" in err
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["train"]["data_options"] == {"skip_bad_rows": True, "drop_leaked": True}
    assert (record["data"]["train"], len(record["data"]["notes"])) == (13, 3)
