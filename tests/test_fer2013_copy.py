"""The binary copy of FER2013: used, checked, made again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from slimnet.data import _cache as cache
from slimnet.data import (
    load_data,
)
from slimnet.errors import SlimnetWarning
from slimnet.files import write_tensors
from test_fer2013 import copies, faces, pixels, rows, whole, write


def test_the_copy_is_used_and_follows_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(tmp_path)
    first = load_data("fer2013", data_dir=tmp_path)
    assert [path.name for path in copies(tmp_path)] == ["fer2013.csv.safetensors"]
    with monkeypatch.context() as patched:
        patched.setattr("slimnet.data.sets.fer2013.read_rows", None)  # nothing is parsed
        second = load_data("fer2013", data_dir=tmp_path)
    assert torch.equal(pixels(first.train), pixels(second.train))
    assert torch.equal(first.test.labels, second.test.labels)
    write(tmp_path, rows(255 - faces()))
    assert np.array_equal(pixels(load_data("fer2013", data_dir=tmp_path).train).numpy(), 255 - faces()[:14])
    assert len(copies(tmp_path)) == 1


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    whole(tmp_path)
    path = tmp_path / "fer2013.csv"
    status = path.stat()
    load_data("fer2013", data_dir=tmp_path)
    content = path.read_text().replace("\n3,", "\n4,", 1)
    path.write_text(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load_data("fer2013", data_dir=tmp_path).train.labels[3] == 4


@pytest.mark.parametrize("keep", [0, 100, 30_000])
def test_a_damaged_copy_is_made_again(tmp_path: Path, keep: int) -> None:
    whole(tmp_path)
    load_data("fer2013", data_dir=tmp_path)
    (copy,) = copies(tmp_path)
    good = copy.read_bytes()
    copy.write_bytes(good[:keep])
    assert len(load_data("fer2013", data_dir=tmp_path).train) == 14
    assert copy.read_bytes() == good


def test_a_changed_pixel_in_the_copy_is_seen(tmp_path: Path) -> None:
    """The same size, the same header, one bit of a pixel: the copy is made again, as one from before it had a checksum is."""
    whole(tmp_path)
    load_data("fer2013", data_dir=tmp_path)
    (copy,) = copies(tmp_path)
    good = copy.read_bytes()
    place = good.index(faces()[3].tobytes()) + 1000
    copy.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    assert np.array_equal(pixels(load_data("fer2013", data_dir=tmp_path).train).numpy(), faces()[:14])
    assert copy.read_bytes() == good
    tensors, about = cache.read_copy(tmp_path / "fer2013.csv", cache.fingerprint(tmp_path / "fer2013.csv", "fer2013/1")) or (
        {},
        {},
    )
    text = {key: value for key, value in about.items() if key != "checksum"}
    content = {**tensors, "about": torch.tensor(list(json.dumps(text).encode()), dtype=torch.uint8)}
    write_tensors(copy, content)
    assert len(load_data("fer2013", data_dir=tmp_path).train) == 14
    assert copy.read_bytes() == good


def test_where_the_folder_cannot_be_written_the_users_cache_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, home = tmp_path / "data", tmp_path / "home"
    whole_path = write(data, rows())
    (data / ".slimnet").write_text("a file, where the folder of copies would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    load_data("fer2013", data_dir=data)
    (copy,) = (home / "slimnet").iterdir()
    assert copy.name.endswith("fer2013.csv.safetensors")
    assert cache.read_copy(whole_path, "another state") is None
    with monkeypatch.context() as patched:
        patched.setattr("slimnet.data.sets.fer2013.read_rows", None)
        load_data("fer2013", data_dir=data)
    home.chmod(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(data / ".slimnet"))  # neither place: it still loads
    with pytest.warns(SlimnetWarning, match=r"no copy of .*fer2013\.csv is kept: .* cannot be written \(Not a directory\)"):
        assert len(load_data("fer2013", data_dir=data).train) == 14


def test_an_interrupted_copy_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    whole(tmp_path)
    monkeypatch.setattr("torch.Tensor.numpy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_data("fer2013", data_dir=tmp_path)
    assert not copies(tmp_path)
