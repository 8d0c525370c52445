"""A run that begins with a slim network, and a run that is made longer."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from command import slimnet_cli
from slimnet.commands import export_run, load_slim
from slimnet.errors import ArgumentError, FileFormatError, ModelError
from slimnet.files import read_tensors
from slimnet.methods import FSDP, Method, NetworkSlimming, OneShot, Stages, StructuredDSD
from slimnet.training import Interrupted, Run, TrainConfig, train
from slimnet.training.optim import learning_rate
from test_resume import NET, assert_same, at_step

SMALL: dict[str, Any] = {
    "model": NET,
    "precision": "fp32",
    "channels_last": False,
    "batch_size": 128,
    "lr": 0.05,
    "device": "cpu",
    "train_fraction": 0.3,
    "progress": False,
}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(out=tmp_path_factory.mktemp("pruned") / "run", epochs=2, method=OneShot(0.5), **SMALL)


@pytest.fixture(scope="module")
def bundle(pruned: Run) -> Path:
    return export_run(pruned.path, pruned.path.parent / "bundle", trust_code=True).path


def on(out: Path, init: Path, **settings: Any) -> Run:
    return train(out=out, init=str(init), **SMALL | {"epochs": 2} | settings)


def more(run: Path, **settings: Any) -> Run:
    return train(out=run, resume=True, model=NET, progress=False, **settings)


def test_a_bundle_is_trained_on_at_its_size_and_exported_again(bundle: Path, tmp_path: Path) -> None:
    run = on(tmp_path / "run", bundle)
    assert run.method.name == "dense"
    again = export_run(run.path, tmp_path / "again", trust_code=True)
    slim, before = (load_slim(path, trust_code=True) for path in (again.path, bundle))
    shapes = [[tuple(p.shape) for p in network.parameters()] for network in (slim, before)]
    assert shapes[0] == shapes[1] and shapes[0][0][0] == 4
    assert not torch.equal(next(slim.parameters()), next(before.parameters()))
    assert again.cost_slim.flops == pytest.approx(run.metrics[0]["live_flops"])
    assert again.report["dense_source"] == "the masked network at full size"


def test_it_begins_with_the_answers_of_the_slim_network(bundle: Path, tmp_path: Path) -> None:
    run = on(tmp_path / "run", bundle, lr=1e-12, epochs=1, warmup_epochs=0, weight_decay=0.0)
    network = run.load_model()
    begun = load_slim(bundle, trust_code=True)
    filters = network[0].weight.flatten(1).abs().sum(1) > 0
    assert torch.allclose(network[0].weight[filters], begun[0].weight, atol=1e-6)


def test_a_slim_folder_names_its_network_and_the_command_takes_dense(tmp_path: Path) -> None:
    weights, slim = tmp_path / "dense", tmp_path / "slim"
    flags = ("--epochs", "1", "--train-fraction", "0.05", "--batch-size", "32", "--precision", "fp32", "--quiet")
    assert slimnet_cli("train", "--model", "resnet8", "--method", "dense", "--out", weights, *flags).status == 0
    options = ("--model", "resnet8", "--image-size", "32")
    pruned = slimnet_cli("prune", weights / "model.safetensors", *options, "--rate", "0.5", "--out", tmp_path / "p")
    assert pruned.status == 0, pruned.err
    assert slimnet_cli("slim", tmp_path / "p" / "model.safetensors", *options, "--out", slim).status == 0
    done = slimnet_cli("train", "--init", slim, "--out", tmp_path / "on", *flags)
    assert done.status == 0, done.err
    assert Run.open(tmp_path / "on").config.model == "resnet8"
    assert slimnet_cli("evaluate", tmp_path / "on").status == 0


def test_resuming_is_bit_for_bit(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = on(tmp_path / "whole", bundle)
    with monkeypatch.context() as patched:
        at_step(patched, 1, 1, signal.SIGTERM)
        with pytest.raises(Interrupted):
            on(tmp_path / "run", bundle)
    assert_same(more(tmp_path / "run"), whole)


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"method": FSDP(rate_cs=0.1, rate_gm=0.4)}, ArgumentError, "is trained on as it is, with method dense, not fsdp"),
    ({"model": "resnet8"}, ArgumentError, "`model` is 'resnet8', the slim network in .* was cut from test_resume:small_net"),
    ({"cut": "never"}, ArgumentError, "`cut` 'never' does not go with a slim network"),
]


@pytest.mark.parametrize(("settings", "kind", "words"), REFUSED)
def test_what_does_not_go_with_a_slim_network(
    settings: dict[str, Any], kind: type[Exception], words: str, bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=words):
        on(tmp_path / "run", bundle, **settings)
    assert not (tmp_path / "run").exists()


def test_a_factory_that_a_folder_names_is_not_trusted(bundle: Path, tmp_path: Path) -> None:
    settings = {name: value for name, value in SMALL.items() if name != "model"}
    with pytest.raises(ModelError, match=r"asks to run 'test_resume:small_net'.*--trust-code"):
        train(out=tmp_path / "run", init=str(bundle), epochs=1, **settings)
    assert train(out=tmp_path / "run", init=str(bundle), epochs=1, trust_code=True, **settings).config.model == NET


def test_a_damaged_folder(bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    (folder / "slim.safetensors").unlink()
    with pytest.raises(FileFormatError, match=r"is no slim network to be trained on: it holds no slim\.safetensors"):
        on(tmp_path / "run", folder)


# ---- longer


def whole_run(out: Path, **settings: Any) -> Run:
    return train(out=out, **SMALL | {"epochs": 3, "method": FSDP(rate_cs=0.1, rate_gm=0.4), "schedule": "cosine"} | settings)


def test_a_finished_run_is_made_longer_and_what_is_closed_stays(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    lines, masks = run.metrics, run.masks()
    longer = more(run.path, epochs=5)
    assert longer.metrics[:3] == lines and len(longer.metrics) == 5
    assert all(torch.equal(longer.masks()[name], masks[name]) for name in masks)
    settings = json.loads((run.path / "config.json").read_text())["train"]
    assert (settings["epochs"], settings["pruning_epochs"]) == (5, 3)
    planned = TrainConfig(model=NET, epochs=5, schedule="cosine", lr=0.05)
    assert learning_rate(planned, 4) < longer.metrics[3]["lr"] < learning_rate(planned, 3)
    assert longer.metrics[3]["closed_share"] == lines[-1]["closed_share"]
    assert (run.path / "model.safetensors").is_file()


def test_lengthening_is_the_same_whether_or_not_it_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = whole_run(tmp_path / "run")
    copy = shutil.copytree(run.path, tmp_path / "copy")
    whole = more(run.path, epochs=5)
    with monkeypatch.context() as patched:
        at_step(patched, 3, 1, signal.SIGTERM)
        with pytest.raises(Interrupted):
            more(copy, epochs=5)
    assert not (copy / "model.safetensors").exists()
    assert_same(more(copy), whole)  # it knows its new length


def test_a_run_in_its_pruning_phase_closes_what_it_would_have_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = whole_run(tmp_path / "whole").masks()
    with monkeypatch.context() as patched:
        at_step(patched, 0, 1, signal.SIGTERM)
        with pytest.raises(Interrupted):
            whole_run(tmp_path / "run")
    run = more(tmp_path / "run", epochs=4)
    sizes = {name: int(gone.sum()) for name, gone in run.masks().items()}
    assert sizes == {name: int(gone.sum()) for name, gone in expected.items()}
    assert run.metrics[2]["closed_share"] == run.metrics[3]["closed_share"] > 0


@pytest.mark.parametrize(
    "method",
    [
        NetworkSlimming(0.4),
        StructuredDSD(phases="ds"),
        Stages((FSDP(rate_cs=0.1, rate_gm=0.4), 2.0), (FSDP(rate_cs=0.1, rate_gm=0.5), 1.0)),
    ],
    ids=lambda method: method.name,
)
def test_methods_in_phases_stay_in_their_last_one(method: Method, tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run", method=method)
    longer = more(run.path, epochs=4)
    assert longer.metrics[-1]["is_closed"] and longer.metrics[3].get("closed_share") == run.metrics[2].get("closed_share")


def test_a_run_is_not_made_shorter(pruned: Run, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="a run of 2 epochs can be made longer, not shorter, got 1"):
        more(pruned.path, epochs=1)
    copy = shutil.copytree(pruned.path, tmp_path / "copy")
    (copy / "checkpoint.safetensors").unlink()
    with pytest.raises(ArgumentError, match=r"holds no checkpoint\.safetensors: it cannot be made longer"):
        more(copy, epochs=3)
    assert read_tensors(copy / "model.safetensors")


def test_pruning_epochs_are_at_most_all() -> None:
    with pytest.raises(ArgumentError, match="`pruning_epochs` must not exceed the 3 epochs, got 4"):
        TrainConfig(model=NET, epochs=3, pruning_epochs=4)
