"""Two processes are one: same global batches, same closed filters, same weights.

In float32 the two differ by rounding, and training a ReLU network multiplies a difference of 1e-7 within a
few
dozen steps of a usual size to one of 1e-1, whoever makes the steps. So the float32 case takes few and small
steps
and ends within 1e-5; that two processes do the same arithmetic at full size is shown in float64, to within
1e-9.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slimnet.files import read_tensors
from slimnet.methods import FSDP
from slimnet.models import build_model
from slimnet.training import Interrupted, Run, train
from slimnet.training.loop import Loop

TESTS = Path(__file__).parent
# an odd number of training images, so that the parts of the last batch are uneven
COMMON: dict[str, Any] = {
    "precision": "fp32",
    "channels_last": False,
    "progress": False,
    "val_fraction": 0.101,
}
CASES: dict[str, dict[str, Any]] = {
    "float32": {"model": "resnet20", "lr": 1e-3, "batch_size": 512, "epochs": 2},
    "float64": {"model": "test_distributed:double_net", "lr": 0.05, "batch_size": 128, "epochs": 2},
    "unsynced": {
        "model": "test_resume:small_net",
        "lr": 0.05,
        "batch_size": 256,
        "epochs": 2,
        "sync_bn": False,
    },
}


def double_net(num_classes: int, in_channels: int) -> nn.Module:
    """ResNet-8 in float64."""

    def widen(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].double(),)

    net = build_model("resnet8", num_classes=num_classes, in_channels=in_channels).double()
    net.register_forward_pre_hook(widen)
    return net


def start(out: Path, case: str) -> Run:
    return train(out=out, device="cpu", method=FSDP(rate_cs=0.1, rate_gm=0.4), **COMMON | CASES[case])


def interrupt_and_resume(out: Path) -> None:
    """Only the second process gets a signal; both stop, and both go on."""
    original = Loop._step

    def stepped(self: Loop, images: Tensor, labels: Tensor) -> int:
        if self.job.team.rank == 1 and (self.state.epoch, self.state.step) == (1, 0):
            signal.raise_signal(signal.SIGTERM)
        return original(self, images, labels)

    Loop._step = stepped  # type: ignore[method-assign]
    try:
        start(out, "unsynced")
    except Interrupted as stopped:
        assert stopped.status == 143
    else:
        raise AssertionError("the signal of the second process was not heard")
    Loop._step = original  # type: ignore[method-assign]
    train(out=out, resume=True, trust_code=True, progress=False)


def in_two_processes(folder: Path) -> None:
    """What both processes run."""
    torch.set_num_threads(1)
    for case in CASES:
        start(folder / case, case)
    interrupt_and_resume(folder / "resumed")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Run, Run]]:
    """Each case in one process and in two."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "script.py"
    script.write_text(
        "import pathlib, sys\nimport test_distributed\ntest_distributed.in_two_processes(pathlib.Path(sys.argv[1]))\n"
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
        str(folder),
    ]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == ""
    one = tmp_path_factory.mktemp("one")
    runs = {case: (start(one / case, case), Run.open(folder / case, trust_code=True)) for case in CASES}
    return runs | {"resumed": (runs["unsynced"][1], Run.open(folder / "resumed", trust_code=True))}


def weights(run: Run) -> dict[str, Tensor]:
    return read_tensors(run.path / "model.safetensors")


@pytest.mark.parametrize(("case", "tolerance"), [("float32", 1e-5), ("float64", 1e-9)])
def test_two_processes_end_where_one_does(case: str, tolerance: float, pairs: dict[str, tuple[Run, Run]]) -> None:
    one, two = pairs[case]
    masks = one.masks(), two.masks()
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
    assert sum(int(closed.sum()) for closed in masks[0].values()) > 0
    torch.testing.assert_close(weights(two), weights(one), rtol=tolerance, atol=tolerance)


def test_two_processes_report_what_one_does(pairs: dict[str, tuple[Run, Run]]) -> None:
    one, two = pairs["float64"]
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "closed_share", "live_flops"):
        assert [line[name] for line in two.metrics] == pytest.approx([line[name] for line in one.metrics])
    assert (one.environment["world_size"], two.environment["world_size"]) == (1, 2)


def test_interrupted_processes_resume_bit_for_bit(pairs: dict[str, tuple[Run, Run]]) -> None:
    whole, resumed = pairs["resumed"]
    got, wanted = weights(resumed), weights(whole)
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_norms_need_not_be_synced(pairs: dict[str, tuple[Run, Run]]) -> None:
    one, two = pairs["unsynced"]
    assert {name: int(mask.sum()) for name, mask in two.masks().items()} == {
        name: int(mask.sum()) for name, mask in one.masks().items()
    }
