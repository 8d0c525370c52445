"""What somebody else's folder may hold: its own files. No link in it is followed, no name leads out of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import slimnet
from command import slimnet_cli
from export_cases import bundle_arguments, resealed
from slimnet.bundle.check import file_faults
from slimnet.commands import verify_bundle
from slimnet.commands.report import open_run
from slimnet.errors import ArgumentError, FileFormatError, SlimnetError
from slimnet.export import compact_bundle, read_bundle, write_bundle
from slimnet.files import read_json
from slimnet.files.untrusted import holds, member, refuse_links
from slimnet.predict import Predictor
from slimnet.training import Run
from slimnet.web import build_site


def link(path: Path) -> None:
    path.symlink_to(secret(path.parents[1]))


def secret(folder: Path) -> Path:
    """A file outside."""
    path = folder / "secret"
    path.write_text("{}")
    return path


def link_to_nothing(path: Path) -> None:
    path.symlink_to("gone")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_a_folder(path: Path) -> None:
    path.symlink_to("/")


def listening(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(before)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (link, "is a symbolic link"),
    "link to nothing": (link_to_nothing, "is a symbolic link"),
    "link to itself": (link_to_itself, "is a symbolic link"),
    "link to a folder": (link_to_a_folder, "is a symbolic link"),
    "pipe": (os.mkfifo, "is a pipe"),
    "socket": (listening, "is a socket"),
}


# -- the one place -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_is_a_plain_file(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make, message = KINDS[kind]
    make(folder / "x")
    for refuses in (lambda: member(folder, "x"), lambda: holds(folder, "x"), lambda: refuse_links(folder)):
        with pytest.raises(FileFormatError, match=f"x {message}"):
            refuses()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secret", "/etc/passwd", "a/b", "a/../b", "a\\b", "a\0b", "C:b", "x/", "x" * 300]
)
def test_a_name_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    secret(tmp_path)
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b").write_text("")
    with pytest.raises(FileFormatError) as caught:
        member(folder, name)
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value)


def test_what_is_a_member(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    os.link(secret(tmp_path), folder / "hard")
    (tmp_path / "way").symlink_to(folder)
    for reached in (folder, tmp_path / "way"):
        assert member(reached, "hard").read_text() == "{}"
        refuse_links(reached)
        assert (holds(reached, "hard"), holds(reached, "none")) == (True, False)
        with pytest.raises(FileFormatError, match=r"none does not exist\.$"):
            member(reached, "none")
        with pytest.raises(FileFormatError, match="inner is a folder, not a file"):
            member(reached, "inner")
    assert holds(tmp_path / "secret", "x") is False


# -- every reader ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and a bundle."""
    folder = tmp_path_factory.mktemp("made")
    settings = {"epochs": 1, "train_fraction": 0.2, "precision": "fp32", "device": "cpu", "progress": False}
    slimnet.train(model="resnet8", method=slimnet.Dense(), out=folder / "run", **settings)
    write_bundle(folder / "bundle", **bundle_arguments())
    return folder


@pytest.fixture
def copied(made: Path, here: Path) -> Path:
    shutil.copytree(made, here, dirs_exist_ok=True)
    Image.new("RGB", (12, 12)).save(here / "x.png")
    return here


READERS: dict[str, Callable[[Path], object]] = {
    "read_bundle": read_bundle,
    "Predictor": Predictor,
    "load_slim": lambda path: slimnet.load_slim(path, trust_code=True),
    "build_site": lambda path: build_site(path, "new"),
    "compact_bundle": lambda path: compact_bundle(path, "new"),
}
COMMANDS = ("verify X", "verify X --no-parity", "predict X x.png", "web X --out new", "evaluate X --data digits", "bench X")


@pytest.mark.parametrize("name", ["model.onnx", "MODEL_CARD.md", "config.json", "model.json", "notes"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_reader_of_a_bundle_follows_a_link(kind: str, name: str, copied: Path) -> None:
    bundle, (make, message) = copied / "bundle", KINDS[kind]
    (bundle / name).unlink(missing_ok=True)
    make(bundle / name)
    for read in READERS.values():
        with pytest.raises(FileFormatError, match=f"{name} {message}"):
            read(bundle)
    assert not (copied / "new").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_follows_a_link(command: str, copied: Path) -> None:
    """One to a file of the right content, outside: where it leads to does not matter."""
    (copied / "bundle" / "MODEL_CARD.md").rename(copied / "outside")
    (copied / "bundle" / "MODEL_CARD.md").symlink_to("../outside")
    done = slimnet_cli(*command.replace("X", "bundle").split())
    assert (done.status, done.out) == (1, "")
    assert "bundle/MODEL_CARD.md is a symbolic link: bundle is read only where its files lie in it" in done.err
    assert len(done.err.splitlines()) == 1


RUN_READERS: dict[str, Callable[[Path], object]] = {
    "Run.open": Run.open,
    "report": open_run,
    "export": lambda path: slimnet.export_run(path, "new"),
    "resume": lambda path: slimnet.train(out=path, resume=True, progress=False),
}


@pytest.mark.parametrize("reader", RUN_READERS)
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "model.safetensors", "checkpoint.safetensors", "report"])
def test_no_reader_of_a_run_follows_a_link(name: str, reader: str, copied: Path) -> None:
    """Nor does a command write where it leads to."""
    run = copied / "run"
    outside = secret(copied)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside)
    with pytest.raises(FileFormatError, match=f"{name} is a symbolic link"):
        RUN_READERS[reader](run)
    assert outside.read_text() == "{}"
    assert not (copied / "new").exists()


def test_a_folder_may_be_reached_by_a_link(copied: Path) -> None:
    for name in ("run", "bundle"):
        (copied / "way").unlink(missing_ok=True)
        (copied / "way").symlink_to(name)
        assert (Run.open if name == "run" else read_bundle)(copied / "way").path == copied / "way"


# -- what a bundle lists -----------------------------------------------------------------------------------


def test_every_entry_that_is_not_listed_is_named(copied: Path) -> None:
    bundle = copied / "bundle"
    names = [".hidden", "__pycache__", "infer.pyc", "sub", "zz\nzz"]
    for name in names:
        (bundle / name).mkdir() if name in ("__pycache__", "sub") else (bundle / name).write_text("")
    faults = verify_bundle(bundle, parity=False).faults
    assert len(faults) == len(names)
    assert all("is not listed in model.json" in fault for fault in faults)
    assert [name for name in names if not any(name in fault for fault in faults)] == []


def test_names_in_model_json_lead_nowhere(copied: Path) -> None:
    bundle, outside = copied / "bundle", secret(copied)
    model = read_json(bundle / "model.json")
    entry = {"bytes": 2, "sha256": hashlib.sha256(outside.read_bytes()).hexdigest()}
    for name in ("../secret", str(outside), "", "a\0b"):
        precisions = {"fp32": {**model["precisions"]["fp32"], "file": name, "bytes": 2}}
        resealed(bundle, files={**model["files"], name: entry}, precisions=precisions)
        assert f"lists {name!r}, which is no file of a bundle" in "\n".join(file_faults(bundle, read_json(bundle / "model.json")))
        with pytest.raises(FileFormatError, match="which is no file of a bundle"):
            read_bundle(bundle)
        report = verify_bundle(bundle)
        assert report.checks.keys() == {"model.json", "files", "schema"}  # nothing of that name was opened


def test_a_network_that_is_not_listed_is_not_run(copied: Path) -> None:
    bundle = copied / "bundle"
    model = read_json(bundle / "model.json")
    resealed(bundle, precisions={**model["precisions"], "int8": {**model["precisions"]["fp32"], "file": "model.int8.onnx"}})
    shutil.copy(bundle / "model.onnx", copied / "other.onnx")
    (copied / "other.onnx").rename(bundle / "model.int8.onnx")
    with pytest.raises(FileFormatError, match=r"does not list model\.int8\.onnx"):
        read_bundle(bundle)


def test_only_what_is_listed_is_packed_again(copied: Path) -> None:
    bundle = copied / "bundle"
    model = read_json(bundle / "model.json")
    files = {name: entry for name, entry in model["files"].items() if name != "infer.py"}
    resealed(bundle, files=files)
    (bundle / "infer.py").write_text("print('not listed')")
    small = compact_bundle(bundle, copied / "small")
    assert not (small.path / "infer.py").exists()
    assert verify_bundle(small.path).passed


def test_what_changes_after_it_was_read_is_not_copied(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked are the very bytes that are written."""
    import slimnet.bundle.compact

    def read_and_change(path: Path) -> object:
        bundle = read_bundle(path)
        (path / "infer.py").write_text("changed")
        return bundle

    monkeypatch.setattr(slimnet.bundle.compact, "read_bundle", read_and_change)
    with pytest.raises(SlimnetError, match=r"infer\.py is not the file that was exported"):
        compact_bundle(copied / "bundle", copied / "small")
    assert not (copied / "small").exists()


def test_a_shipped_name_is_still_a_name(here: Path) -> None:
    with pytest.raises(ArgumentError, match="ships no bundle"):
        slimnet.ready.ready_bundle("../expressions")
