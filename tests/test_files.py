"""Files and folders: whole or not at all, the same bytes every time, nothing left behind, and one line where a disk is full."""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save

from slimnet.errors import ArgumentError, FileFormatError, SlimnetWarning, WriteError
from slimnet.files import (
    append_line,
    atomic_file,
    atomic_folder,
    read_json,
    read_tensors,
    scratch_folder,
    write_bytes,
    write_json,
    write_tensors,
    writing,
)
from slimnet.files.content import _DTYPES as DTYPES

OURS = ("model", "note")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to write more into a file, as it does on a full disk; Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def a_folder(path: Path, content: str) -> None:
    with atomic_folder(path, ours=OURS, force=True) as folder:
        (folder / "note").write_text("short")
        (folder / "model").write_text(content)


def in_pieces(path: Path, size: int) -> None:
    with atomic_file(path) as file:
        for _ in range(size):
            file.write(b"x")


# what is written → how, with a long or a short content
WRITERS: dict[str, Callable[[Path, int], None]] = {
    "bytes": lambda path, size: write_bytes(path, b"x" * size),
    "json": lambda path, size: write_json(path, {"text": "x" * size}),
    "tensors": lambda path, size: write_tensors(path, {"w": torch.zeros(size)}),
    "stream": in_pieces,
    "folder": lambda path, size: a_folder(path, "x" * size),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("limit", [0, 1000])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_changes_nothing(name: str, limit: int, tmp_path: Path) -> None:
    path = tmp_path / "out"
    WRITERS[name](path, 3)
    before = contents(tmp_path)
    with (
        files_of_at_most(limit),
        pytest.raises(WriteError, match=r"/out cannot be written \(File too large\): [^\n]+\.$") as error,
    ):
        WRITERS[name](path, 5000)
    assert error.value.errno == errno.EFBIG
    assert contents(tmp_path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_file_in_a_folder_in_the_making_is_called_by_the_name_that_was_given(here: Path) -> None:
    with (
        files_of_at_most(1000),
        pytest.raises(WriteError, match=r"^out/model cannot be written \(File too large\): [^\n]+\.$") as error,
        atomic_folder(Path("out"), ours=OURS) as folder,
    ):
        write_bytes(folder / "model", b"x" * 5000)
    assert error.value.errno == errno.EFBIG
    with pytest.raises(WriteError, match=r"/other/model cannot be written"), atomic_folder(Path("out"), ours=OURS):
        write_bytes(here / "other" / "model", b"")
    assert list(here.iterdir()) == []


POINTS = {
    "create": ("slimnet.files.writing.Path.open", "slimnet.files.outputs.Path.mkdir"),
    "close": ("slimnet.files.writing.os.close",),
    "rename": ("slimnet.files.writing.Path.replace",),
}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("name", WRITERS)
def test_whatever_the_system_refuses(name: str, point: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full, over quota, read-only or forbidden, found out when a file is made, closed or renamed."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(WriteError) as error:
        for target in POINTS["rename" if name == "folder" and point == "close" else point]:  # a folder is not closed
            patch.setattr(target, refused)
        WRITERS[name](path, 10)
    assert re.fullmatch(rf"{path} cannot be written \({re.escape(os.strerror(number))}\): [^\n]+\.", str(error.value))
    assert (error.value.errno, error.value.strerror) == (number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"folder"}))
def test_a_folder_that_has_gone_is_not_made_anew(name: str, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"gone/out cannot be written \(No such file or directory\): see whether its folder"):
        WRITERS[name](tmp_path / "gone" / "out", 3)
    with pytest.raises(WriteError, match="see whether its folder is still there"):
        append_line(tmp_path / "gone" / "lines", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, "one")
    with files_of_at_most(100), pytest.raises(WriteError, match=r"lines cannot be written \(File too large\)"):
        append_line(path, "x" * 200)
    append_line(path, "two")
    assert path.read_text() == "one\ntwo\n"


def test_what_was_read_is_not_called_unwritable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="source"), atomic_folder(tmp_path / "out", ours=OURS):
        (tmp_path / "source").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_scratch_space_that_is_full_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with files_of_at_most(0), pytest.raises(WriteError, match=r"temporary files cannot be written in .* in TMPDIR"):  # noqa: SIM117
        with scratch_folder("test") as folder:
            (folder / "x").write_text("x")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(WriteError, match=r"gone \(No such file or directory\)"), scratch_folder("test"):
        pass


def test_caches_that_cannot_be_written_are_done_without(tmp_path: Path) -> None:
    from slimnet.measure.costs import CostTable

    (tmp_path / "file").touch()
    table = CostTable(folder=tmp_path / "file" / "costs")
    table._times["x"] = 1.0
    with pytest.warns(SlimnetWarning, match=r"^measured times are not kept: .* cannot be written \(Not a directory\)[^\n]*$"):
        table.save()
    table.save()  # says it once


def test_a_video_on_a_full_disk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """OpenCV itself says nothing, and leaves a file that cannot be played."""
    from slimnet.predict.video import _Recorder

    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)) for _ in range(30)]
    for limit in (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]):
        for ending in (".mp4", ".mkv", ".avi"):
            recorder = _Recorder(tmp_path / f"out{ending}", 20 / 3)
            with files_of_at_most(limit):
                for frame in frames:
                    recorder.add(frame)
                if limit == 20_000:
                    with pytest.raises(WriteError, match=r"cannot be written \(not all frames got into it"):
                        recorder.__exit__(None, None, None)
                    assert list(tmp_path.iterdir()) == []
                else:
                    recorder.__exit__(None, None, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.avi", "out.mkv", "out.mp4"]


# --- the same bytes, modes ------------------------------------------------------------------------------------------------


def many_tensors() -> dict[str, torch.Tensor]:
    each = {f'{name}.é"\\': torch.ones(3, 2, dtype=getattr(torch, name)) for name in DTYPES if not name.startswith("float8")}
    grid = torch.arange(48.0).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last)
    return {**each, "scalar": torch.tensor(3), "empty": torch.zeros(0, 4), "grid": grid, "part of it": grid[:, 1]}


@pytest.mark.parametrize("metadata", [{}, {"state": 'a "line"\n of é\x01/'}])
def test_tensors_are_written_as_safetensors_itself_writes_them(metadata: dict[str, str], tmp_path: Path) -> None:
    tensors = many_tensors()
    write_tensors(tmp_path / "t", tensors, metadata=metadata)
    assert (tmp_path / "t").read_bytes() == save({name: t.contiguous().clone() for name, t in tensors.items()}, metadata=metadata)
    found = load_file(tmp_path / "t")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


WRITE = """
import sys, torch
from pathlib import Path
from slimnet.files import write_tensors
names = sys.argv[2].split(",")
write_tensors(Path(sys.argv[1]), {"w": torch.zeros(3)}, metadata={name: name for name in names})
"""


def test_the_same_tensors_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    orders = ["format,model,a,b,c", "c,b,a,model,format", "model,a,c,format,b"]
    children = [subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path / order), order]) for order in orders]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert len({(tmp_path / order).read_bytes() for order in orders}) == 1
    for _ in range(20):
        write_tensors(tmp_path / "here", {"w": torch.zeros(3)}, metadata={name: name for name in orders[0].split(",")})
        assert (tmp_path / "here").read_bytes() == (tmp_path / orders[0]).read_bytes()


def test_a_type_that_safetensors_lacks(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="w is of type complex128, which safetensors does not have"):
        write_tensors(tmp_path / "t", {"w": torch.zeros(1, dtype=torch.complex128)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700)])
def test_everything_has_the_modes_that_the_user_asks_for(mask: int, file: int, folder: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        for name, write in WRITERS.items():
            write(tmp_path / name, 3)
        append_line(tmp_path / "lines", "x")
        write_bytes(tmp_path / "new" / "file", b"", parents=True)
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (folder if path.is_dir() else file), path


# --- killed processes -----------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from slimnet.files import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    if len(sys.argv) > 2:
        print("writing", flush=True)
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_killed_processes_left_goes_and_what_lives_stays(tmp_path: Path) -> None:
    mine = tmp_path / ".slimnet-new-mine.txt"  # not as we call things
    mine.write_text("mine")
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], check=False)
    (left,) = set(tmp_path.iterdir()) - {mine}
    assert writing.temporary_of(left) == ("new", "out")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "out"), "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"writing\n"
        (living,) = set(tmp_path.iterdir()) - {mine, left}
        write_bytes(tmp_path / "another", b"whole")  # the first time that this process writes here
        assert set(tmp_path.iterdir()) == {mine, living, tmp_path / "another"}
        other.kill()
    writing.sweep(tmp_path)
    assert living.exists()  # once a folder is enough
    writing.sweep(tmp_path, again=True)
    assert set(tmp_path.iterdir()) == {mine, tmp_path / "another"}


STEPS = """
import os, signal, sys
from pathlib import Path
from slimnet.files import outputs
from slimnet.files import atomic_folder

root, exchange = Path(sys.argv[1]), sys.argv[2] == "exchange"
if not exchange:
    outputs._exchange = lambda one, other: False
out, names = root / "out", ("model", "note")

def write(text):
    with atomic_folder(out, ours=names, force=True) as folder:
        for name in names:
            (folder / name).write_text(text)

def held(folder):
    return {path.name: path.read_text() for path in folder.iterdir()} if folder.exists() else None

def kill_at(step):
    events = 0
    def watch(event, arguments):
        nonlocal events
        if event.startswith(("os.", "shutil.", "open")):
            events += 1
            if events == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    write("new")

write("old")
whole = [dict.fromkeys(names, text) for text in ("old", "new")]
step, seen = 0, []
while True:
    step += 1
    write("old")
    child = os.fork()
    if child == 0:
        try:
            kill_at(step)
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    found = held(out)
    assert found in whole or (found is None and not exchange), (step, found)
    seen.append("none" if found is None else found["note"])
    with outputs.claim_folder(out, ours=names, force=True):
        assert held(out) in whole, (step, held(out))
        assert {path.name for path in root.iterdir()} == {"out", ".slimnet-lock-out"}, (step, list(root.iterdir()))
    assert {path.name for path in root.iterdir()} == {"out"}, (step, list(root.iterdir()))
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, (step, status)
print(step, *dict.fromkeys(seen))
"""


@pytest.mark.parametrize(("how", "states"), [("exchange", ["old", "new"]), ("two renames", ["old", "none", "new"])])
def test_killed_at_every_step_of_replacing_a_folder(how: str, states: list[str], tmp_path: Path) -> None:
    """SIGKILL before each system call of it: old or new, all of it, at the latest when the next one starts."""
    done = subprocess.run([sys.executable, "-c", STEPS, str(tmp_path), how], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps, *seen = done.stdout.split()
    assert int(steps) > 15
    assert seen == states


def test_an_old_folder_whose_place_is_free_is_put_back(tmp_path: Path) -> None:
    old, new = tmp_path / ".slimnet-old-01234567-out", tmp_path / ".slimnet-new-01234567-out"
    for folder in (old, new):
        folder.mkdir()
        (folder / "note").write_text(folder.name)
    with pytest.raises(ArgumentError, match="out exists already"), atomic_folder(tmp_path / "out", ours=OURS):
        pass
    assert contents(tmp_path) == {"out/note": old.name.encode()}


def test_what_we_left_in_a_folder_is_never_foreign(tmp_path: Path) -> None:
    """A process killed while it checked whether a folder can be written."""
    a_folder(tmp_path / "out", "old")
    (tmp_path / "out" / ".slimnet-new-01234567-probe").touch()
    a_folder(tmp_path / "out", "new")
    assert contents(tmp_path) == {"out/note": b"short", "out/model": b"new"}


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_folder(tmp_path / "out", "old")
    right = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if writing.temporary_of(self) == ("new", "out"):
            raise OSError(errno.EIO, "Input/output error")
        return right(self, target)

    monkeypatch.setattr("slimnet.files.outputs._exchange", lambda *_: False)
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(WriteError, match="out cannot be written"):
        a_folder(tmp_path / "out", "new")
    assert contents(tmp_path) == {"out/note": b"short", "out/model": b"old"}


def test_readers_take_what_is_written(tmp_path: Path) -> None:
    WRITERS["json"](tmp_path / "j", 3)
    WRITERS["tensors"](tmp_path / "t", 3)
    assert read_json(tmp_path / "j") == {"text": "xxx"}
    assert torch.equal(read_tensors(tmp_path / "t")["w"], torch.zeros(3))
