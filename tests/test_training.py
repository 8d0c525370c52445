"""The engine: bad settings, metrics, selection, progress."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from listeners import Terminal
from slimnet.allocation import LiveFlops
from slimnet.data import Batches, Dataset, load_data
from slimnet.errors import ArgumentError, DataError, FileFormatError, ModelError, SlimnetError, TrainingError
from slimnet.graph import channel_groups, prunable
from slimnet.measure import count
from slimnet.methods import FSDP, Dense
from slimnet.models import build_model
from slimnet.terminal import on
from slimnet.training import Evaluation, Run, evaluate, train
from slimnet.training import job as parts
from slimnet.training.norm_statistics import reestimate_norms
from slimnet.training.state import Best
from test_resume import small_net

QUICK: dict[str, Any] = {
    "model": "test_resume:small_net",
    "method": FSDP(rate_cs=0.1, rate_gm=0.4),
    "epochs": 4,
    "batch_size": 128,
    "lr": 0.05,
    "precision": "fp32",
    "channels_last": False,
    "device": "cpu",
    "progress": False,
}


def start(out: Path, **settings: Any) -> Run:
    return train(out=out, **QUICK | settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(tmp_path_factory.mktemp("training") / "run", epochs=6)


BAD: list[tuple[dict[str, Any], type[SlimnetError], str]] = [
    ({"epochs": 0}, ArgumentError, "`epochs` must be a whole number of at least 1, got 0"),
    ({"epochs": 2.5}, ArgumentError, "`epochs` must be .*, got 2.5"),
    ({"batch_size": 0}, ArgumentError, "`batch_size` must be .*, got 0"),
    ({"batch_size": 5000}, ArgumentError, r"`batch_size` must not exceed the 1294 training images, got 5000"),
    ({"lr": 0.0}, ArgumentError, "`lr` must be a positive number, got 0.0"),
    ({"lr": math.nan}, ArgumentError, "`lr` must be a positive number, got nan"),
    ({"lr": "fast"}, ArgumentError, "`lr` must be a positive number, got 'fast'"),
    ({"weight_decay": -1}, ArgumentError, "`weight_decay` must be .*, got -1"),
    ({"momentum": 1.0}, ArgumentError, r"`momentum` must be in \(0, 1\), got 1.0"),
    ({"label_smoothing": 1.0}, ArgumentError, r"`label_smoothing` must be in \[0, 1\), got 1.0"),
    ({"val_fraction": 0.0}, ArgumentError, r"`val_fraction` must be in \(0, 1\), got 0.0"),
    ({"milestones": (3, 2)}, ArgumentError, r"`milestones` must be rising .*, got \(3, 2\)"),
    ({"gamma": 0}, ArgumentError, r"`gamma` must be in \(0, 1\], got 0"),
    ({"warmup_epochs": -1}, ArgumentError, "`warmup_epochs` must be .*, got -1"),
    ({"seed": -1}, ArgumentError, "`seed` must be .*, got -1"),
    ({"optimizer": "adam"}, ArgumentError, "`optimizer` must be one of sgd, adamw, got 'adam'"),
    ({"schedule": "linear"}, ArgumentError, "`schedule` must be one of step, cosine, constant, got 'linear'"),
    ({"precision": "fp16"}, ArgumentError, "`precision` must be one of auto, fp32, bf16, got 'fp16'"),
    ({"channels_last": "yes"}, ArgumentError, "`channels_last` must be .*, got 'yes'"),
    (
        {"normalise": "cifar"},
        ArgumentError,
        "`normalise` must be 'dataset', .* above 0, got 'cifar'",
    ),
    ({"device": "tpu!"}, ArgumentError, "`device` must be 'auto', 'cpu' or 'cuda', got 'tpu!'"),
    ({"method": "fsdp"}, ArgumentError, "`method` must be a pruning method"),
    ({"momentun": 0.9}, ArgumentError, "unknown setting `momentun`: did you mean `momentum`"),
    ({"model": "resnet21"}, ModelError, "resnet21"),
    ({"data": "cifar11"}, DataError, "cifar10"),
    ({"data": "cifar10", "data_dir": "/nowhere"}, DataError, "/nowhere"),
    ({"model": "test_training:wrong_size"}, ModelError, r"cannot take images of shape \(1, 8, 8\)"),
    ({"model": "test_training:wrong_output"}, ModelError, r"must give logits .* \(2, 10\) .* gives \(2, 3\)"),
    ({"init": "/nowhere/weights.pth"}, SlimnetError, "/nowhere/weights.pth"),
]


def wrong_size(in_channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.Flatten(), nn.Linear(4, 10))


def wrong_output(in_channels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, 3))


@pytest.mark.parametrize(("settings", "kind", "message"), BAD, ids=[str(next(iter(case[0].items()))) for case in BAD])
def test_bad_argument_gets_one_line_before_any_work(
    settings: dict[str, Any], kind: type[SlimnetError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message) as error:
        start(tmp_path / "run", **settings)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_model_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="`model` is missing"):
        train(out=tmp_path / "run")


def test_output_is_not_overwritten_without_force(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="exists already"):
        start(run.path)
    (tmp_path / "out").mkdir()
    for name in ("model.safetensors", "metrics.jsonl", "notes.txt"):
        (tmp_path / "out" / name).write_text("old\n")
    fresh = start(tmp_path / "out", epochs=1, force=True)
    assert len(fresh.metrics) == 1
    assert (tmp_path / "out" / "notes.txt").read_text() == "old\n"


def test_run_directory(run: Run) -> None:
    assert {path.name for path in run.path.iterdir()} == {
        "checkpoint.json",
        "checkpoint.safetensors",
        "selection.jsonl",
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
    }
    opened = Run.open(run.path)
    assert (opened.config, opened.metrics, opened.result) == (run.config, run.metrics, run.result)
    assert opened.method == QUICK["method"]
    assert (opened.image_shape, opened.classes[:2], len(opened.mean)) == ((1, 8, 8), ("0", "1"), 1)


def test_metrics(run: Run) -> None:
    assert [line["epoch"] for line in run.metrics] == list(range(6))
    needed = {"lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "rate", "zeta", "closed_share"}
    needed |= {"live_flops", "seconds", "data_share"}
    assert all(needed <= line.keys() for line in run.metrics)
    first, last = run.metrics[0], run.metrics[-1]
    assert last["train_loss"] < first["train_loss"]
    assert (last["zeta"], last["closed_share"]) == (0.0, 0.5)
    assert last["live_flops"] < 0.6 * first["live_flops"]


def test_masked_filters_and_their_norms_end_exactly_zero(run: Run) -> None:
    tensors = run.load_model().state_dict()
    masks = run.masks()
    assert {name: int(closed.sum()) for name, closed in masks.items()} == {"0": 4, "3": 8}
    for conv, norm in (("0", "1"), ("3", "4")):
        for name in (f"{conv}.weight", f"{norm}.weight", f"{norm}.bias"):
            assert not tensors[name][masks[conv]].any()
            assert tensors[name][~masks[conv]].any()
    assert not tensors["0.bias"][masks["0"]].any()


def test_best_epoch_is_chosen_by_validation_among_closed_ones(run: Run) -> None:
    closed = [line for line in run.metrics if line["is_closed"]]
    assert 0 < len(closed) < len(run.metrics)
    best = max(closed, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    assert run.best_epoch == best["epoch"]


def test_an_open_epoch_is_never_best_however_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slimnet.training import loop

    def flattered(job: object, model: object, epoch: int) -> Evaluation:
        accuracy = 1.0 - 0.1 * epoch  # the first, open epochs look best
        return Evaluation(accuracy=accuracy, loss=1.0, per_class=(), confusion=(), count=1)

    monkeypatch.setattr(loop, "validate", flattered)
    result = start(tmp_path / "run")
    assert result.best_epoch == next(line["epoch"] for line in result.metrics if line["is_closed"]) > 0


def test_best_prefers_accuracy_then_loss() -> None:
    best = Best(epoch=3, accuracy=0.9, loss=0.5, weights={})
    assert best.is_beaten_by(0.91, 9.0)
    assert best.is_beaten_by(0.9, 0.4)
    assert not best.is_beaten_by(0.9, 0.5)
    assert not best.is_beaten_by(0.89, 0.0)


def test_test_split_is_read_once_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(load_data("digits").test)
    seen: list[int] = []

    class Watched(Batches):
        def epoch(self, e: int, **where: Any) -> Any:
            if self.size == size:
                seen.append(len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()))
            return super().epoch(e, **where)

    monkeypatch.setattr(parts, "Batches", Watched)
    result = start(tmp_path / "run")
    assert seen == [4]
    assert result.result["test_images"] == size


def test_result_is_what_evaluate_says(run: Run) -> None:
    data = run.dataset()
    got = evaluate(run.load_model(), data.test, mean=run.mean, std=run.std)
    assert got.accuracy == run.result["test_accuracy"]
    assert got.loss == pytest.approx(run.result["test_loss"], rel=1e-5)


def test_loss_that_is_not_a_number(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not a number at epoch 0, step \d+: lower `lr`") as error:
        start(tmp_path / "run", lr=1e6, weight_decay=1.0, warmup_epochs=0)
    assert "\n" not in str(error.value)
    values = json.loads((tmp_path / "run" / "checkpoint.json").read_text())
    assert (values["epoch"], values["step"]) == (0, 0)
    with pytest.raises(FileFormatError, match="did not finish"):
        Run.open(tmp_path / "run")


def test_a_run_is_a_function_of_its_seed(run: Run, tmp_path: Path) -> None:
    again = start(tmp_path / "again", epochs=6)
    other = start(tmp_path / "other", epochs=6, seed=1)
    wanted = run.load_model().state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in again.load_model().state_dict().items())
    assert not torch.equal(other.load_model().state_dict()["3.weight"], wanted["3.weight"])


@pytest.mark.parametrize(
    "settings",
    [
        {"method": Dense()},
        {"method": FSDP(faithful=True)},
        {"method": FSDP(couple="none")},
        {"optimizer": "adamw", "lr": 1e-3, "schedule": "cosine", "decay_norm": False},
        {"precision": "bf16", "channels_last": True, "label_smoothing": 0.1},
        {"precision": "auto", "channels_last": "auto"},
        {"model": "resnet8", "schedule": "constant", "warmup_epochs": 0, "image_size": 12},
        {"reestimate_norm": False, "seed": 3},
    ],
    ids=str,
)
def test_every_way_to_train(settings: dict[str, Any], tmp_path: Path) -> None:
    result = start(tmp_path / "run", **{"epochs": 2} | settings)
    assert result.metrics[-1]["is_closed"]
    assert "auto" not in (result.config.precision, result.config.channels_last)
    assert Run.open(result.path).config == result.config
    assert result.load_model()(result.example_input()).shape == (2, 10)


def test_run_open_says_what_is_wrong(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="there is no such folder"):
        Run.open(tmp_path / "none")
    with pytest.raises(FileFormatError, match=r"holds no config\.json"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text('{"train": {}, "data": {}, "environment": {}}')
    for name in ("model.safetensors", "metrics.jsonl"):
        (tmp_path / name).write_bytes((run.path / name).read_bytes())
    with pytest.raises(FileFormatError, match=r"config\.json: `data` lacks `classes`"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text('{"some": "thing"}')
    with pytest.raises(FileFormatError, match="does not describe a run"):
        Run.open(tmp_path)


def test_run_with_a_truncated_model(run: Run, tmp_path: Path) -> None:
    copy = dataclasses.replace(run, path=tmp_path)
    content = (run.path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match=r"model\.safetensors"):
        copy.load_model()


def test_evaluation_of_an_onnx_file(run: Run, tmp_path: Path) -> None:
    from slimnet.export import export_onnx

    model, data = run.load_model(), run.dataset()
    export_onnx(model, run.example_input(), tmp_path / "model.onnx")
    got = evaluate(tmp_path / "model.onnx", data.val, mean=run.mean, std=run.std)
    assert got.confusion == evaluate(model, data.val, mean=run.mean, std=run.std).confusion


def test_norms_are_estimated_over_the_batches_given() -> None:
    torch.manual_seed(0)
    model = small_net(10, 1).train()
    model[4].eval()
    batches = [(torch.randn(8, 1, 8, 8), torch.zeros(8)) for _ in range(3)]
    with torch.no_grad():
        maps = [model[0](images) for images, _ in batches]
    reestimate_norms(model, batches)
    torch.testing.assert_close(model[1].running_mean, torch.stack([x.mean((0, 2, 3)) for x in maps]).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.cat(maps).var((0, 2, 3)))
    assert (model[1].training, model[4].training, model[8].training) == (True, False, True)
    assert (model[1].momentum, int(model[1].num_batches_tracked)) == (0.1, 3)


def test_live_flops_agree_with_the_counter() -> None:
    model, example = build_model("resnet8", num_classes=10).eval(), torch.randn(1, 3, 32, 32)
    groups = prunable(channel_groups(model, example))
    flops = LiveFlops(model, groups, example)
    assert flops.dense == pytest.approx(count(model, example).flops, rel=0.03)  # it counts more than layers
    assert flops.live({}) == flops.dense
    half = {group.name: torch.arange(group.size) % 2 == 0 for group in groups}
    assert flops.live(half) < 0.3 * flops.dense


def test_progress_is_one_line_an_epoch_where_nobody_watches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(tmp_path / "run", epochs=2, progress=None)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    words = ("epoch 2/2", "loss", "acc", "rate 0.500", "scale 0.0000", "FLOPs", "left 0:00")
    assert all(word in lines[1] for word in words)


def test_progress_updates_one_line_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    start(tmp_path / "run", epochs=2, progress=on(stream), cut="never")
    assert stream.getvalue().count("\n") == 3  # two epochs and the final evaluation
    assert "\r" in stream.getvalue()


def test_quiet_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(tmp_path / "run", epochs=1)
    assert capsys.readouterr() == ("", "")


def test_the_share_of_the_data_is_told(tmp_path: Path) -> None:
    """That it is small: benchmarks/data_time.py."""
    result = start(tmp_path / "run", model="resnet8", epochs=2, image_size=32)
    assert all(0 < line["data_share"] < 1 for line in result.metrics)


def test_dataset_is_the_one_of_the_run(run: Run) -> None:
    data = run.dataset()
    assert isinstance(data, Dataset)
    assert data.as_dict() == run.data
