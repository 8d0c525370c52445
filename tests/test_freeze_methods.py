"""What is frozen stays as it was to the last bit, whatever the method, and across an interruption."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from method_cases import CASES
from slimnet.files import read_tensors
from slimnet.methods import DSD, Method
from slimnet.training import Interrupted, Run, train
from slimnet.training.loop import Loop
from test_resume import NET, assert_same, small_net

FROZEN = ("0", "1")
METHODS: list[Method] = list({type(m): m for m in (case.method for case in CASES) if not getattr(m, "widths", ())}.values())
SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw, averaged": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.1, "decay_norm": True, "ema": 0.9},
    "bf16": {"precision": "bf16", "channels_last": True},
}
TRIED = [
    pytest.param(method, settings, id=f"{method.name}, {name}")
    for method in METHODS
    for name, settings in SETTINGS.items()
    if name == "sgd" or method.name in ("dense", "dsd", "fsdp")
]
QUICK: dict[str, Any] = {
    "model": NET, "epochs": 6, "batch_size": 256, "lr": 0.05, "weight_decay": 0.05, "precision": "fp32", "channels_last": False,
    "device": "cpu", "progress": False, "train_fraction": 0.5, "freeze": FROZEN,
}  # fmt: skip


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A file of weights that no training begins with by itself: norms are live, and none of them is 1 or 0."""
    torch.manual_seed(7)
    weights = small_net(10, 1).state_dict()
    for name, tensor in weights.items():
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5) if "var" in name or "weight" in name else tensor.uniform_(-0.2, 0.2)
    path = tmp_path_factory.mktemp("before") / "weights.pth"
    torch.save(weights, path)
    return path, weights


def frozen_names(weights: dict[str, Tensor]) -> list[str]:
    return [name for name in weights if name.split(".")[0] in FROZEN and "num_batches" not in name]


def check(run: Run, weights: dict[str, Tensor]) -> int:
    """Hold the frozen part of a run's result against what it began with; how many filters of it a mask has closed.

    A method may close a frozen filter, whose norm then has nothing to say; what it does not close stays.
    """
    after = run.load_model().state_dict()
    closed = run.masks().get("0", torch.zeros(8, dtype=torch.bool))
    for name in frozen_names(weights):
        assert torch.equal(after[name][~closed], weights[name][~closed]), name
    moved = [name for name in weights if name not in frozen_names(weights) and not torch.equal(after[name], weights[name])]
    assert {"3.weight", "9.weight", "9.bias"} <= set(moved), "or nothing is tried"
    return int(closed.sum())


def interrupted(out: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> set[int]:
    """Train until the middle of the fourth epoch; the places of what the optimiser holds, in the network's parameters."""
    original, held = Loop._step, set[int]()

    def step(self: Loop, images: Tensor, labels: Tensor) -> int:
        if (self.state.epoch, self.state.step) == (3, 1):
            own = [id(p) for group in self.state.optimizer.param_groups for p in group["params"]]
            held.update(i for i, p in enumerate(self.state.model.parameters()) if id(p) in own)
            signal.raise_signal(signal.SIGTERM)
        return original(self, images, labels)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", step)
        with pytest.raises(Interrupted):
            train(out=out, **QUICK | settings)
    return held


@pytest.mark.parametrize(("method", "settings"), TRIED)
def test_frozen_weights_stay_whatever_the_method(
    method: Method, settings: dict[str, Any], before: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, weights = before
    given = settings | {"method": method, "init": str(path)}
    whole = train(out=tmp_path / "whole", **QUICK | given)
    closed = check(whole, weights)
    assert closed == 0 or method.name not in ("dense", "dsd"), "these close no filter"
    held = interrupted(tmp_path / "cut", monkeypatch, **given)
    assert held == {4, 5, 6, 7, 8}, "no norm, momentum or decay of what is frozen: 3.weight, the norm behind it, 9"
    resumed = train(out=tmp_path / "cut", resume=True, progress=False, trust_code=True)
    assert_same(resumed, whole)
    check(resumed, weights)


def test_dsd_masks_no_weight_that_is_frozen(before: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sparse phase is interrupted: the masks on disk are of trained layers, and hold where a weight is zero."""
    path, weights = before
    method = DSD(sparsity=0.5, phases="D-S-D", lengths=(2, 3, 1), dense_first=False)
    interrupted(tmp_path / "run", monkeypatch, method=method, init=str(path))
    tensors = read_tensors(tmp_path / "run" / "checkpoint.safetensors")
    dropped = {name.rpartition("dropped.")[2]: tensor for name, tensor in tensors.items() if "dropped." in name}
    assert dropped.keys() == {"3.weight", "9.weight"}
    for name, mask in dropped.items():
        now = tensors[next(key for key in tensors if key.endswith(name) and key.startswith("model/"))]
        assert bool((now[mask.bool()] == 0).all()) and float(mask.float().mean()) == pytest.approx(0.5, abs=0.01)
    assert all(torch.equal(tensors[f"model/{name}"], weights[name]) for name in frozen_names(weights))
