"""What was held out of a network's training stays held out where it is pruned and trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from listeners import Heard
from slimnet.commands import prune_and_finetune, prune_checkpoint
from slimnet.commands.calibration import load_images_for
from slimnet.commands.opening import recorded_splits, with_members
from slimnet.data import load_data
from slimnet.errors import FileFormatError
from slimnet.methods import Dense
from slimnet.training import Run, train
from test_layouts import filled, picture

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 4, "precision": "fp32", "device": "cpu"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return filled(tmp_path / "data", {".": 10})


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Run:
    how = {"data": "folder", "data_dir": str(root), "val_fraction": 0.25, "seed": 3, "method": Dense(), "progress": False}
    return train(model="resnet8", out=tmp_path / "run", **how, **QUICK)


def held(run: Run) -> set[str]:
    names = run.dataset().val.names
    return set(names.names() if names else ())


def test_a_run_and_its_weights_say_their_splits(run: Run, root: Path, tmp_path: Path) -> None:
    found = recorded_splits(run.path, "folder", root)
    assert (found["val_fraction"], found["seed"]) == (0.25, 3)
    assert recorded_splits(run.path / "model.safetensors", "folder", str(root)) == found
    assert recorded_splits(run.path, "folder", tmp_path) == {}  # other pictures
    assert recorded_splits(run.path, "digits", None) == {}


def test_what_lies_beside_weights_is_no_fault_of_theirs(run: Run, root: Path, tmp_path: Path) -> None:
    """As in the cache of a hub, whose folders are full of links."""
    (run.path / "linked").symlink_to(tmp_path)
    weights = run.path / "model.safetensors"
    assert recorded_splits(weights, "folder", root) == {}
    how = {"model": "resnet8", "rate": 0.3, "image_size": 8}
    assert prune_checkpoint(weights, tmp_path / "bare", **how)
    assert prune_checkpoint(weights, tmp_path / "cs", criterion="cs", data="folder", data_dir=str(root), **how)
    with pytest.raises(FileFormatError, match="linked is a symbolic link"):
        recorded_splits(run.path, "folder", root)


def test_criteria_do_not_look_at_what_was_held_out(run: Run, root: Path) -> None:
    before = held(run)
    for i in range(4):
        picture(root / "cat" / f"new{i}.png", 100 + i)
    splits = with_members(run.path, recorded_splits(run.path, "folder", root))
    seen = load_images_for(run.example_input(), "folder", str(root), {}, splits)
    assert seen.val.names is not None and set(seen.val.names.names()) == before
    drawn = load_data("folder", data_dir=root, val_fraction=0.25, seed=3).train.names
    assert drawn is not None and before & set(drawn.names())  # without what was written down


def test_finetuning_on_what_was_held_out_is_said(run: Run, root: Path, tmp_path: Path) -> None:
    how = {"rate": 0.3, "data": "folder", "data_dir": str(root), **QUICK}
    same, changed, other = Heard(), Heard(), Heard()
    prune_and_finetune(run.path, tmp_path / "same", progress=same, **how)
    assert not [line for line in same.lines if "held out" in line]
    prune_and_finetune(run.path, tmp_path / "other", progress=other, **how | {"seed": 4})
    assert [line for line in other.lines if line.startswith("`seed` is not that of the run: what is held out")]
    for i in range(4):
        picture(root / "cat" / f"new{i}.png", 100 + i)
    prune_and_finetune(run.path, tmp_path / "changed", progress=changed, **how)
    assert [line for line in changed.lines if "pictures are trained on that it held out" in line]
