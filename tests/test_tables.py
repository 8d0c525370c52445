"""Tables of paths and labels, Hugging Face data sets, FER2013 as pandas writes it: made by the libraries that make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from slimnet.data import ImageFiles, load_data
from slimnet.errors import DataError, FileFormatError
from test_data_of_a_run import same
from test_fer2013 import faces, rows

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets", "ignore::DeprecationWarning:pandas")


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """20 pictures of 2 classes, and what lists them."""
    (tmp_path / "img").mkdir()
    for i in range(20):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / "img" / f"{i}.png")
    parts = ["train"] * 12 + ["valid"] * 4 + ["Test"] * 4
    names = [f"img/{i}.png" for i in range(20)]
    return pd.DataFrame({"filename": names, "label": ["cat", "dog"] * 10, "split": parts})


def test_csv_and_parquet_give_the_same(tmp_path: Path, table: pd.DataFrame) -> None:
    table.to_csv(tmp_path / "a.csv")  # with pandas' extra column of an index
    table.to_csv(tmp_path / "b.tsv", sep="\t", index=False)
    table.to_csv(tmp_path / "c.csv", sep=";")
    table.to_parquet(tmp_path / "d.parquet")
    found = [load_data("table", data_dir=tmp_path / name) for name in ("a.csv", "b.tsv", "c.csv", "d.parquet")]
    assert [len(split) for split in (found[0].train, found[0].val, found[0].test)] == [12, 4, 4]
    assert found[0].classes == ("cat", "dog") and int(found[0].test.take(torch.tensor([0])).max()) == 16
    assert all(same(found[0], other) for other in found[1:])


def test_without_a_split_one_is_drawn(tmp_path: Path, table: pd.DataFrame) -> None:
    table.drop(columns="split").assign(label=[float(i % 2) for i in range(20)]).to_csv(tmp_path / "a.csv")
    data = load_data("table", data_dir=tmp_path, val_fraction=0.25)
    assert (data.classes, data.is_drawn) == (("0", "1"), True)
    assert [len(split) for split in (data.train, data.val, data.test)] == [12, 4, 4]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"filename": "../x.png"}, r"row 2: the path '\.\./x\.png' leads out of the folder"),
    ({"filename": "/etc/passwd"}, "row 2: the path '/etc/passwd' leads out of the folder"),
    ({"filename": "img/../../x.png"}, "leads out of the folder"),
    ({"filename": "img/link.png"}, "is a link that leads out of"),
    ({"filename": "img/none.png"}, "row 2: there is no file 'img/none.png'"),
    ({"filename": ""}, "row 2: no path"),
    ({"label": ""}, "row 2: no label"),
    ({"split": "holdout"}, "split 'holdout' is none of train, val, test"),
    ({"filename": "img/3.png"}, "lists 1 pictures more than once"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_rows(tmp_path: Path, table: pd.DataFrame, change: dict[str, Any], message: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path.parent / f"{tmp_path.name}.png")
    (tmp_path / "img" / "link.png").symlink_to(tmp_path.parent / f"{tmp_path.name}.png")
    for name, value in change.items():
        table.loc[0, name] = value
    table.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=message) as caught:
        load_data("table", data_dir=tmp_path / "a.csv")
    assert "\n" not in str(caught.value)
    if "more than once" not in message:
        data = load_data("table", data_dir=tmp_path / "a.csv", data_options={"skip_bad_rows": True})
        assert len(data.train) == 11 and data.notes[0].startswith("1 bad rows left out; the first: ")


def bomb(path: Path) -> None:
    """Few bytes that stand for very many rows."""
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(5_000_000, np.int32)), pa.array(["a.png"]))
    pq.write_table(pa.table({"path": values, "label": values}), path, compression="zstd")


BAD_TABLES: list[tuple[str, Any, str]] = [
    ("a.csv", lambda p: p.write_text("a,b\n1,2\n"), r"has no column for the path \(path, file, filename, file_name …\)"),
    ("a.csv", lambda p: p.write_text("path\nx\n"), "has no column for the label"),
    ("a.csv", lambda p: p.write_bytes(b""), "has no header"),
    ("a.csv", lambda p: p.write_bytes(b"\xff\xfe\x00"), "has no header: it is empty, or no text in UTF-8"),
    ("a.csv", lambda p: p.write_bytes(b"x" * (1 << 20)), "has no header"),
    ("a.csv", lambda p: p.write_text("path,label\n"), "holds no good row"),
    ("a.csv", lambda p: p.write_text("path,label\na,b,c\n"), "row 2: not as many values as the header"),
    ("a.parquet", lambda p: p.write_bytes(b"PAR1" * 9), "cannot be read as Parquet"),
    ("a.parquet", bomb, "5,000,000 rows in .* bytes: that is no table of pictures"),
]


@pytest.mark.parametrize(("name", "write", "message"), BAD_TABLES)
def test_bad_tables(tmp_path: Path, name: str, write: Any, message: str) -> None:
    write(tmp_path / name)
    with pytest.raises(DataError, match=message):
        load_data("table", data_dir=tmp_path / name)


# --- Hugging Face ---


def made(count: int) -> datasets.Dataset:
    images = [Image.fromarray(np.full((8, 8, 3), i, np.uint8)) for i in range(count)]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"])})
    return datasets.Dataset.from_dict({"image": images, "label": [i % 2 for i in range(count)]}, features=kinds)


def test_datasets_from_disk(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": made(12), "validation": made(4), "test": made(6)}).save_to_disk(str(tmp_path / "whole"))
    data = load_data("hf", data_dir=tmp_path / "whole")
    assert (data.classes, data.image_shape) == (("dog", "cat"), (3, 8, 8))
    assert [len(split) for split in (data.train, data.val, data.test)] == [12, 4, 6]
    assert data.train.take(torch.tensor([7])).unique().tolist() == [7]
    streamed = load_data("hf", data_dir=tmp_path / "whole", resident_bytes=0)
    assert isinstance(streamed.train.images, ImageFiles) and same(streamed, data)
    made(20).save_to_disk(str(tmp_path / "one"))
    assert len(load_data("hf", data_dir=tmp_path / "one", val_fraction=0.25).test) == 4


def test_a_saved_data_set_names_no_file_elsewhere(tmp_path: Path) -> None:
    made(4).save_to_disk(str(tmp_path / "one"))
    state = json.loads((tmp_path / "one" / "state.json").read_text())
    state["_data_files"][0]["filename"] = "../other.arrow"
    (tmp_path / "one" / "state.json").write_text(json.dumps(state))
    with pytest.raises(FileFormatError, match=r"cannot hold '\.\./other\.arrow'"):
        load_data("hf", data_dir=tmp_path / "one")
    with pytest.raises(DataError, match="is not what datasets' save_to_disk writes"):
        load_data("hf", data_dir=tmp_path)


# --- FER2013 ---


def fer() -> pd.DataFrame:
    found = [row.split(",") for row in rows()]
    return pd.DataFrame({"emotion": [int(r[0]) for r in found], "pixels": [r[1] for r in found], "Usage": [r[2] for r in found]})


NAMES = ["Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"]


@pytest.mark.parametrize("kind", ["index", "floats", "float pixels", "names", "semicolons", "tabs"])
def test_fer2013_as_pandas_writes_it_back(tmp_path: Path, kind: str) -> None:
    frame, options = fer(), {"semicolons": {"sep": ";"}, "tabs": {"sep": "\t"}}.get(kind, {})
    if kind == "floats":
        frame["emotion"] = frame["emotion"].astype(float)
    if kind == "float pixels":
        frame["pixels"] = [" ".join(f"{float(p)}" for p in text.split()) for text in frame["pixels"]]
    if kind == "names":
        frame["emotion"] = [NAMES[i] for i in frame["emotion"]]
    frame.to_csv(tmp_path / "fer2013.csv", index=kind == "index", **options)
    data = load_data("fer2013", data_dir=tmp_path)
    assert [len(split) for split in (data.train, data.val, data.test)] == [14, 7, 7]
    assert data.val.labels.tolist() == list(range(7))
    assert np.array_equal(data.train.take(torch.arange(14)).flatten(1).numpy(), faces()[:14])


def test_fer2013_without_usage_is_split(tmp_path: Path) -> None:
    frame = pd.concat([fer()] * 5).drop(columns="Usage")
    frame.to_csv(tmp_path / "fer2013.csv", index=False)
    data = load_data("fer2013", data_dir=tmp_path)
    assert [len(split) for split in (data.train, data.val, data.test)] == [112, 14, 14]
    assert data.notes[0].startswith("there is no column Usage: 14 rows are drawn for validation and 14 for test")


def test_fer2013_a_file_a_split(tmp_path: Path) -> None:
    for name, part in (("train", slice(0, 14)), ("validation", slice(14, 21)), ("test", slice(21, 28))):
        fer()[part].drop(columns="Usage").to_csv(tmp_path / f"{name}.csv")
    data = load_data("fer2013", data_dir=tmp_path)
    assert [len(split) for split in (data.train, data.val, data.test)] == [14, 7, 7]
