"""Outputs of commands: one writer at a time, and one line where the disk is full."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import slimnet
from command import slimnet_cli
from slimnet.errors import ArgumentError
from slimnet.files import check_free, outputs
from slimnet.training import Run
from slimnet.training.loop import Loop
from test_files import contents, files_of_at_most
from web_runtime import MODULES, archive

TRAIN = "train --model resnet8 --epochs 1 --batch-size 512 --precision fp32 --quiet --out"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a bundle and a picture; not to be changed."""
    folder = tmp_path_factory.mktemp("outputs")
    for command in (f"{TRAIN} {folder}/run", f"export {folder}/run --out {folder}/bundle"):
        done = slimnet_cli(*command.split())
        assert done.status == 0, done.err
    Image.new("L", (8, 8), 128).save(folder / "x.png")
    return folder


# what writes the folder "o" → the command, and what it is a copy of
COMMANDS = {
    "train": (f"{TRAIN} o", "run"),
    "export": ("export {made}/run --out o", "bundle"),
    "export, compact": ("export {made}/run --out o --compact", "bundle"),
    "slim": ("slim {made}/run/model.safetensors --model resnet8 --image-size 8 --out o", None),
    "prune": ("prune {made}/run/model.safetensors --model resnet8 --image-size 8 --rate 0.5 --out o", None),
    "web": ("web {made}/bundle --out o", None),
    "report": ("report {made}/run --out o", None),
}
FILES = {
    "plot": "bench {made}/bundle --rounds 2 --seconds 0 --plot o.png",
    "picture": "predict {made}/bundle {made}/x.png --annotate o.png --force",
}


def run(command: str, made: Path) -> Any:
    return slimnet_cli(*command.format(made=made).split())


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files, empty; and an npm package that needs no network."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr("slimnet.web.site.fetch_runtime", lambda *_, **__: archive(MODULES))
    return folder


# --- full disks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 2500])
@pytest.mark.parametrize("name", [*COMMANDS, *FILES])
def test_a_full_disk_is_one_line_and_what_was_there_stays(name: str, limit: int, made: Path, here: Path, scratch: Path) -> None:
    if name in COMMANDS:
        command, copy = COMMANDS[name]
        if copy:
            shutil.copytree(made / copy, here / "o")
            command += " --force"
    else:
        command = FILES[name]
        (here / "o.png").write_bytes(b"old")
    before = contents(here)
    with files_of_at_most(limit):
        done = run(command, made)
    assert (done.status, done.err.count("Traceback")) == (1, 0)
    assert re.fullmatch(r"slimnet: error: [^\n]+ cannot be written[^\n]* \(File too large\): [^\n]+\.", done.err.splitlines()[-1])
    if name == "train" and limit:  # the disk is full once the old run is gone
        assert set(contents(here)) == {"o/config.json"}
    else:
        assert contents(here) == before
    assert list(scratch.iterdir()) == []


def test_a_disk_that_fills_up_in_a_training_leaves_the_last_checkpoint(
    made: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Loop._steps

    def steps(self: Loop) -> None:
        right(self)
        if self.state.epoch == 1:
            monkeypatch.setattr("slimnet.files.writing.Path.replace", refused)

    def refused(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Loop, "_steps", steps)
    command = f"{TRAIN} o".replace("--epochs 1", "--epochs 2").split()
    done = slimnet_cli(*command)
    line = r"slimnet: error: o/checkpoint\.safetensors cannot be written \(No space left on device\): make room there[^\n]+\n"
    assert done.status == 1
    assert re.fullmatch(line, done.err), done.err
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert slimnet_cli("train", "--resume", "--quiet", "--out", "o").status == 0
    assert Run.open(here / "o").config.epochs == 2
    assert not [path for path in (here / "o").iterdir() if path.name.startswith(".")]


def test_standard_output_that_is_full() -> None:
    command = [sys.executable, "-m", "slimnet_cli", "recipes"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    line = "slimnet: error: standard output cannot be written (No space left on device): what is there is cut short.\n"
    assert (done.returncode, done.stderr) == (1, line)


# --- one writer at a time -------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from slimnet.files import outputs
path = Path(sys.argv[1])
with outputs.claim_run(path) if sys.argv[2] == "run" else outputs.claim_folder(path, ours=None, force=True):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold() -> Iterator[Callable[[Path, str], subprocess.Popen[bytes]]]:
    """Lets another process write a folder until it is killed."""
    held: list[subprocess.Popen[bytes]] = []

    def start(path: Path, how: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", HOLD, str(path), how]
        held.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert (out := held[-1].stdout) is not None
        assert out.readline() == b"held\n"
        return held[-1]

    yield start
    for child in held:
        child.kill()
        child.communicate()


def busy(process: int) -> str:
    return rf"o is being written by process {process} on [\w.-]+ since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ: wait, or choose another"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", COMMANDS)
def test_the_second_writer_is_told_who_the_first_is(
    name: str, force: bool, made: Path, here: Path, hold: Any, scratch: Path
) -> None:
    command, copy = COMMANDS[name]
    if copy:
        shutil.copytree(made / copy, here / "o")
    child = hold(here / "o", "run" if name == "train" else "folder")
    before = contents(here)
    done = run(command + (" --force" if force else ""), made)
    assert (done.status, done.out) == (1, "")
    assert re.fullmatch(rf"slimnet: error: {busy(child.pid)} output\.\n", done.err), done.err
    assert contents(here) == before


def test_resume_waits_for_nobody_either(made: Path, here: Path, hold: Any) -> None:
    shutil.copytree(made / "run", here / "o")
    (here / "o" / "model.safetensors").unlink()
    child = hold(here / "o", "run")
    done = slimnet_cli("train", "--resume", "--quiet", "--out", "o")
    assert done.status == 1
    assert re.search(busy(child.pid), done.err)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (here / "o" / ".slimnet-lock").exists()  # what it says counts no more
    assert slimnet_cli("train", "--resume", "--quiet", "--out", "o").status == 0
    assert not (here / "o" / ".slimnet-lock").exists()


CHECK = """
import sys
from pathlib import Path
from slimnet.files import check_free
try:
    check_free(Path(sys.argv[1]))
except Exception as error:
    print(error)
"""


def others_view(path: Path) -> str:
    return subprocess.run([sys.executable, "-c", CHECK, str(path)], capture_output=True, text=True, check=True).stdout


def test_a_training_and_an_export_hold_their_outputs(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From before their work until it is done."""
    seen: list[str] = []

    def watched(where: str) -> None:
        module, _, name = where.rpartition(".")
        right = getattr(sys.modules[module], name)

        def watching(*arguments: Any, **options: Any) -> Any:
            seen.append(others_view(Path("o")))
            return right(*arguments, **options)

        monkeypatch.setattr(f"{module}.{name}", watching)

    watched("slimnet.training.engine.prepare")
    watched("slimnet.training.engine.write_result")
    slimnet.train(model="resnet8", epochs=1, batch_size=512, precision="fp32", progress=False, out="o")
    assert others_view(Path("o")) == ""
    shutil.rmtree("o")
    watched("slimnet.training.run.load_data_of")
    slimnet.export_run(made / "run", "o")
    assert others_view(Path("o")) == ""
    assert len(seen) == 3
    assert all(re.match(busy(os.getpid()), each) for each in seen)


def test_a_thread_may_claim_again_what_it_holds_and_another_may_not(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    out = tmp_path / "new" / "o"
    with outputs.claim_folder(out, ours=None), outputs.claim_folder(out, ours=None):
        check_free(out)
        with ThreadPoolExecutor(1) as pool, pytest.raises(ArgumentError, match=busy(os.getpid())):
            pool.submit(check_free, out).result()
    assert list(tmp_path.iterdir()) == []


FORK = """
import os, signal, sys, time
from pathlib import Path
from slimnet.files import outputs
with outputs.claim_run(Path(sys.argv[1])):
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_lock_does_not_outlive_its_process_in_a_fork(tmp_path: Path) -> None:
    """As when a training with loader processes is killed."""
    with subprocess.Popen([sys.executable, "-c", FORK, str(tmp_path / "o")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        fork = int(process.stdout.readline())
        assert process.wait() == -signal.SIGKILL
        os.kill(fork, 0)  # it lives on
        try:
            check_free(tmp_path / "o")
        finally:
            os.kill(fork, signal.SIGKILL)


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any, **__: Any) -> bool:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("filelock.lock_descriptor", unsupported)
    with outputs.atomic_folder(tmp_path / "o", ours=()) as folder:
        (folder / "x").touch()
    assert contents(tmp_path) == {"o/x": b""}
