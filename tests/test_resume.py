"""An interrupted run that is resumed ends where an uninterrupted one does, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from slimnet.errors import ArgumentError, FileFormatError
from slimnet.files import read_tensors
from slimnet.methods import FSDP, Dense
from slimnet.training import Interrupted, Run, train
from slimnet.training.loop import Loop

TESTS = Path(__file__).parent
TIMINGS = ("seconds", "data_share")
CASES: dict[str, dict[str, Any]] = {
    "fsdp": {"method": FSDP(rate_cs=0.1, rate_gm=0.4)},
    "dense, adamw": {"method": Dense(), "optimizer": "adamw", "lr": 1e-3, "schedule": "cosine"},
    "fsdp, bf16": {"method": FSDP(rate_cs=0.1, rate_gm=0.4), "precision": "bf16", "channels_last": True},
    "averaged and mixed": {"method": FSDP(rate_cs=0.1, rate_gm=0.4), "ema": 0.9, "mixup": 0.2, "cutmix": 1.0},
}


NET = "test_resume:small_net"


def small_net(num_classes: int, in_channels: int) -> nn.Module:
    """Two convolutions, and dropout so that the global generator matters."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16, num_classes),
    )


def start(out: Path, case: str = "fsdp", **settings: Any) -> Run:
    given: dict[str, Any] = {
        "precision": "fp32",
        "channels_last": False,
        "epochs": 4,
        "batch_size": 128,
        "lr": 0.05,
    }
    given |= {"model": NET, "progress": False, "device": "cpu"}
    return train(out=out, **given | CASES[case] | settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Uninterrupted runs, by case."""

    return {case: start(tmp_path_factory.mktemp("whole") / "run", case) for case in CASES}


def assert_same(run: Run, expected: Run) -> None:
    got, wanted = (
        read_tensors(run.path / "model.safetensors"),
        read_tensors(expected.path / "model.safetensors"),
    )
    assert got.keys() == wanted.keys()
    different = [name for name in wanted if not torch.equal(got[name], wanted[name])]
    assert not different
    assert [_timeless(line) for line in run.metrics] == [_timeless(line) for line in expected.metrics]
    assert run.result == expected.result


def _timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in TIMINGS}


def at_step(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int, signum: int) -> None:
    """Send this process a signal in the middle of a step."""
    original = Loop._step

    def stepped(self: Loop, images: torch.Tensor, labels: torch.Tensor) -> int:
        if (self.state.epoch, self.state.step) == (epoch, step):
            signal.raise_signal(signum)
        return original(self, images, labels)

    monkeypatch.setattr(Loop, "_step", stepped)


KILLED = """
import os, signal, sys
from pathlib import Path
import test_resume
from slimnet.training import checkpoint, loop
torch = test_resume.torch
torch.set_num_threads(1)
where, out = sys.argv[1], Path(sys.argv[2])
original_step, original_json = loop.Loop._step, checkpoint.write_json

def step(self, images, labels):
    if where == "step" and (self.state.epoch, self.state.step) == (1, 5):
        os.kill(os.getpid(), signal.SIGKILL)
    return original_step(self, images, labels)

def write_json(path, values):
    if where == "checkpoint" and values["epoch"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    original_json(path, values)

loop.Loop._step, checkpoint.write_json = step, write_json
test_resume.start(out)
"""


@pytest.mark.parametrize("where", ["step", "checkpoint"])
def test_kill_9_and_resume_is_bit_for_bit(where: str, whole: dict[str, Run], tmp_path: Path) -> None:
    """SIGKILL in the middle of epoch 1, or between the two files of a checkpoint."""
    out = tmp_path / "run"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", KILLED, where, str(out)]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert not (out / "model.safetensors").exists()
    with pytest.raises(FileFormatError, match="did not finish: resume it"):
        Run.open(out)
    assert_same(train(out=out, resume=True, model=NET, progress=False), whole["fsdp"])


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("case", CASES)
def test_signal_writes_a_checkpoint(
    case: str, signum: int, whole: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        at_step(patch, epoch=2, step=3, signum=signum)
        with pytest.raises(Interrupted, match="can be resumed") as stopped:
            start(tmp_path / "run", case)
    assert stopped.value.status == 128 + signum
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    values = json.loads((tmp_path / "run" / "checkpoint.json").read_text())
    assert (values["epoch"], values["step"]) == (2, 4)
    assert_same(train(out=tmp_path / "run", resume=True, model=NET, progress=False), whole[case])


@pytest.mark.parametrize("step", [0, 10])
def test_signal_in_the_first_and_the_last_step(
    step: int, whole: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, epoch=1, step=step, signum=signal.SIGTERM)
        with pytest.raises(Interrupted):
            start(tmp_path / "run")
    values = json.loads((tmp_path / "run" / "checkpoint.json").read_text())
    assert (values["epoch"], values["step"]) == ((1, 1) if step == 0 else (2, 0))
    assert_same(train(out=tmp_path / "run", resume=True, model=NET, progress=False), whole["fsdp"])


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was interrupted in epoch 1."""
    with monkeypatch.context() as patch:
        at_step(patch, epoch=1, step=2, signum=signal.SIGTERM)
        with pytest.raises(Interrupted):
            start(tmp_path / "stopped")
    return tmp_path / "stopped"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("checkpoint.safetensors", truncate),
        ("checkpoint.safetensors", flip),
        ("checkpoint.json", truncate),
        ("config.json", truncate),
    ],
)
def test_damaged_file_is_named(name: str, damage: Any, stopped: Path) -> None:
    damage(stopped / name)
    with pytest.raises(FileFormatError, match=name) as error:
        train(out=stopped, resume=True, model=NET, progress=False)
    assert "\n" not in str(error.value)


def test_checkpoint_of_another_network(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, epoch=0, step=2, signum=signal.SIGTERM)
        with pytest.raises(Interrupted):
            start(tmp_path / "other", model="resnet8")
    shutil.copy(tmp_path / "other" / "checkpoint.safetensors", stopped)
    with pytest.raises(FileFormatError, match=r"checkpoint\.safetensors: it does not fit this run"):
        train(out=stopped, resume=True, model=NET, progress=False)


def test_resumed_settings_may_not_differ(stopped: Path) -> None:
    with pytest.raises(ArgumentError, match=r"`lr` was 0\.05 when the run in .* began, got 0\.1"):
        train(out=stopped, resume=True, model=NET, lr=0.1, progress=False)
    run = train(out=stopped, resume=True, model=NET, lr=0.05, precision="auto", progress=False)
    assert run.config.precision == "fp32"


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="nothing to resume"):
        train(out=tmp_path / "none", resume=True, model=NET, progress=False)


def test_resuming_a_finished_run_changes_nothing(whole: dict[str, Run]) -> None:
    before = {path.name: path.read_bytes() for path in whole["fsdp"].path.iterdir()}
    run = train(out=whole["fsdp"].path, resume=True, model=NET, progress=False)
    assert run.result == whole["fsdp"].result
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def test_resume_without_a_checkpoint_starts_over(stopped: Path, whole: dict[str, Run]) -> None:
    """Killed after config.json and before the first checkpoint."""
    for name in ("checkpoint.safetensors", "checkpoint.json", "metrics.jsonl"):
        (stopped / name).unlink()
    assert_same(train(out=stopped, resume=True, model=NET, progress=False), whole["fsdp"])
