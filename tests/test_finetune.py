"""prune --finetune: a dense checkpoint in; a run out that the other commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from command import slimnet_cli
from slimnet.commands import prune_and_finetune, prune_checkpoint
from slimnet.errors import ArgumentError
from slimnet.files import read_tensors
from slimnet.methods import OneShot
from slimnet.training import Run, train

NET = "test_resume:small_net"
QUICK: dict[str, Any] = {
    "precision": "fp32",
    "channels_last": False,
    "batch_size": 64,
    "train_fraction": 0.1,
    "device": "cpu",
    "progress": False,
}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = train(out=tmp_path_factory.mktemp("dense") / "run", model=NET, epochs=1, lr=0.05, **QUICK)
    return run.path / "model.safetensors"


def tuned(dense: Path, out: Path, **settings: Any) -> Run:
    return prune_and_finetune(dense, out, model=NET, epochs=1, **QUICK | {"data": "digits"} | settings)


def closed(path: Path, name: str = "0.weight") -> list[bool]:
    return [not bool(row.any()) for row in read_tensors(path / "model.safetensors")[name].flatten(1)]


def test_the_whole_path(dense: Path, tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    flags = "--data digits --train-fraction 0.1 --batch-size 64 --precision fp32 --device cpu --set channels_last=false"
    done = slimnet_cli(
        "prune", dense, "--model", NET, "--flops", "0.5", "--finetune", "1", *flags.split(), "--out", run, "--json"
    )
    assert done.status == 0, done.err
    assert "closing " in done.err
    assert done.json["run"] == str(run)
    for command in (
        ("export", run, "--out", bundle, "--trust-code"),
        ("evaluate", run, "--trust-code"),
        ("bench", bundle, "--rounds", "3", "--seconds", "0", "--trust-code"),
        ("verify", bundle, "--trust-code"),
        ("report", run, "--trust-code"),
        ("train", "--resume", "--epochs", "2", "--out", run, "--quiet", "--trust-code"),
        ("train", "--init", bundle, "--epochs", "1", "--out", tmp_path / "on", "--quiet", "--trust-code", *flags.split()),
    ):
        done = slimnet_cli(*command)
        assert done.status == 0, (command, done.err)
    config = Run.open(run, trust_code=True).config
    assert (config.lr, config.schedule, config.distill_weight, config.teacher) == (0.05, "cosine", 0.9, str(dense))
    report = prune_checkpoint(dense, tmp_path / "pruned", model=NET, flops=0.5, num_classes=None, in_channels=None, image_size=8)
    assert closed(run) == closed(tmp_path / "pruned")
    assert report["flops"]["realisable"] <= 0.5 * report["flops"]["dense"]


def test_a_run_says_its_network_and_its_pictures(tmp_path: Path) -> None:
    start = train(out=tmp_path / "dense", model="resnet8", image_size=12, normalise="0.4,0.2", epochs=1, lr=0.05, **QUICK)
    settings = {"epochs": 1, "data": "digits", "rate": 0.4, **QUICK}
    kept = prune_and_finetune(start.path, tmp_path / "kept", **settings).config
    assert (kept.model, kept.image_size, kept.normalise) == ("resnet8", 12, "0.4,0.2")
    assert kept.init == kept.teacher == str(start.path / "model.safetensors")
    assert prune_and_finetune(start.path, tmp_path / "other", image_size=10, **settings).config.image_size == 10
    with pytest.raises(ArgumentError, match="does not say which network its weights are of: name it with --model"):
        prune_and_finetune(start.path / "model.safetensors", tmp_path / "none", **settings)


def test_a_target_is_met_once_cut(dense: Path, tmp_path: Path) -> None:
    run = tuned(dense, tmp_path / "run", target={"flops": 0.6})
    assert run.target is not None and run.target["predicted"]["flops_left"] <= 0.6
    assert any(closed(run.path)) and run.config.teacher == str(dense)


CHOICES: dict[str, dict[str, Any]] = {
    "taylor, global": {"criterion": "taylor", "ranking": "global", "rate": 0.4},
    "cs": {"criterion": "cs", "rate": 0.5},
    "ignore": {"ignore": ("3",), "rate": 0.5},
}


@pytest.mark.parametrize("case", CHOICES)
def test_what_prune_closes_is_closed(case: str, dense: Path, tmp_path: Path) -> None:
    choice = CHOICES[case]
    run = tuned(dense, tmp_path / "run", **choice)
    network = {"num_classes": None, "in_channels": None, "image_size": run.image_shape[-1]}
    prune_checkpoint(dense, tmp_path / "pruned", model=NET, data="digits", **choice, **network)
    for layer in ("0.weight", "3.weight"):
        assert closed(run.path, layer) == closed(tmp_path / "pruned", layer)
    assert any(closed(run.path, "0.weight")) and run.metrics[0]["live_flops"] < 150_000


def test_norms_that_stay_open_are_trained_behind_the_mask(dense: Path, tmp_path: Path) -> None:
    run = tuned(dense, tmp_path / "run", rate=0.5, mask_norm=False, teacher=None, optimizer="adamw")
    assert sum(closed(run.path)) == 4
    assert (run.config.teacher, run.config.lr) == (None, 1e-3)


def test_refused_before_any_work(dense: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="fine-tuning needs data: name a data set with --data"):
        tuned(dense, tmp_path / "run", rate=0.5, data=None)
    with pytest.raises(ArgumentError, match="give one of `rate`, `flops` and `target`"):
        tuned(dense, tmp_path / "run")
    with pytest.raises(ArgumentError, match="a target with fine-tuning takes no criterion 'taylor'"):
        tuned(dense, tmp_path / "run", target={"flops": 0.5}, criterion="taylor")
    with pytest.raises(ArgumentError, match=r"a rate of 0\.01 closes no filter: the widest group has 16 channels"):
        tuned(dense, tmp_path / "run", rate=0.01)
    assert not (tmp_path / "run").exists()


def test_closed_bits_must_fit() -> None:
    with pytest.raises(ArgumentError, match="`closed` names 'a', which has no width"):
        OneShot(closed=(("a", "f0"),))
    with pytest.raises(ArgumentError, match="`closed` must be"):
        OneShot(widths=(("a", 4),), closed=(("a", "zz"),))
    torch.manual_seed(0)
    from slimnet.graph import channel_groups
    from test_resume import small_net

    model, images = small_net(3, 1), torch.zeros(2, 1, 8, 8)
    groups = channel_groups(model, images)
    for bits, words in (
        ("f0", "`closed` leaves 0 4 channels, `widths` 5"),
        ("f000", "`closed` of 0 does not fit its 8 channels"),
    ):
        pruner = OneShot(widths=(("0", 5),), closed=(("0", bits),)).start(model, groups, epochs=1)
        with pytest.raises(ArgumentError, match=words):
            pruner.begin(lambda modules: pytest.fail("no statistics are needed"))
