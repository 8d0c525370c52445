"""What a step minimises: soft labels, class weights, mixing, a teacher; averaged weights; views; F1."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from slimnet import FSDP, Dense, Run, train
from slimnet.attached import close_average
from slimnet.data import Augment, Batches, Split
from slimnet.errors import ArgumentError, FileFormatError, ModelError
from slimnet.training import TrainConfig, evaluate
from slimnet.training.data import load_config_data
from slimnet.training.job import Job, prepare
from slimnet.training.metrics import append_selection, keep_epochs, read_selection
from slimnet.training.objective import Objective, right_answers
from slimnet.training.optim import make_average
from slimnet.training.teacher import Teacher
from slimnet.training.team import join_team

SMALL = {"model": "test_objective:small_net", "data": "digits", "precision": "fp32", "channels_last": False, "device": "cpu"}


def small_net(num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    first, second = nn.Conv2d(in_channels, 8, 3, padding=1, bias=False), nn.Conv2d(8, 12, 3, stride=2, bias=False)
    norms = nn.BatchNorm2d(8), nn.BatchNorm2d(12)
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, num_classes)
    return nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU(), *pooled)


def job_of(**settings: object) -> Job:
    config = TrainConfig(**SMALL | settings)  # type: ignore[arg-type]
    return prepare(config, join_team("cpu"), weights=True, say=lambda _: None, trust_code=config.model)


def batch(job: Job) -> tuple[torch.Tensor, torch.Tensor]:
    return next(iter(job.train_batches.epoch(0)))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("teacher") / "run"
    return train(out=out, method=Dense(), epochs=3, lr=0.1, progress=False, **SMALL)


# --- the loss -------------------------------------------------------------------------------------------------------------


def test_plain_loss_is_cross_entropy() -> None:
    job = job_of(label_smoothing=0.1)
    images, labels = batch(job)
    logits = job.model(images)
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="sum")
    assert torch.equal(Objective(job).loss(images, logits, labels), expected)


def test_class_weights_count_classes_alike() -> None:
    job = job_of(class_weights=1.0)
    labels = job.dataset.train.labels
    logits = torch.zeros(len(labels), 10)
    total = Objective(job).loss(torch.empty(0), logits, labels)
    parts = [Objective(job).loss(torch.empty(0), logits[labels == c], labels[labels == c]) for c in range(10)]
    assert torch.stack(parts).max() == pytest.approx(float(torch.stack(parts).min()), rel=1e-4)
    assert float(total) == pytest.approx(len(labels) * torch.tensor(10.0).log().item(), rel=1e-4)


def test_distillation_by_hand() -> None:
    job = job_of(distill_weight=0.7, distill_temperature=2.0)
    images, labels = batch(job)
    other = small_net().eval()
    nn.init.normal_(other[-1].weight)
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    job = replace(job, teacher=Teacher(other, one, zero))
    logits = job.model(images).detach()
    p, q = (other(images).detach() / 2).softmax(1), (logits / 2).log_softmax(1)
    divergence = (p * (p.log() - q)).sum()
    expected = 0.3 * F.cross_entropy(logits, labels, reduction="sum") + 0.7 * 4 * divergence
    assert float(Objective(job).loss(images, logits, labels)) == pytest.approx(float(expected), rel=1e-5)


def test_the_teacher_answers_for_the_mirror_image_too() -> None:
    job = job_of(distill_weight=1.0, distill_temperature=2.0)
    job = replace(job, config=replace(job.config, teacher_views="flip"))
    images, labels = batch(job)
    other = small_net().eval()
    nn.init.normal_(other[-1].weight)
    job = replace(job, teacher=Teacher(other, torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)))
    logits = job.model(images).detach()
    mean = (other(images).softmax(1) + other(images.flip(3)).softmax(1)).detach() / 2
    p, q = (mean.log() / 2).softmax(1), (logits / 2).log_softmax(1)
    assert not torch.allclose(mean, other(images).softmax(1), atol=1e-2)  # a mirrored digit is another one
    assert float(Objective(job).loss(images, logits, labels)) == pytest.approx(4 * float((p * (p.log() - q)).sum()), rel=1e-5)


def test_views_without_a_teacher_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="`teacher_views` is for a teacher: give `teacher`"):
        train(out=tmp_path / "run", teacher_views="flip", progress=False, **SMALL)
    assert not (tmp_path / "run").exists()


def test_agreeing_with_the_teacher_costs_nothing() -> None:
    job = job_of(distill_weight=1.0)
    images, labels = batch(job)
    model = job.model.eval()
    job = replace(job, teacher=Teacher(model, torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)))
    assert float(Objective(job).loss(images, model(images).detach(), labels)) == pytest.approx(0, abs=1e-4)


def test_right_answers_of_labels_and_of_shares() -> None:
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]])
    assert int(right_answers(logits, torch.tensor([1, 1, 1]))) == 2
    assert int(right_answers(logits, torch.tensor([[0.2, 0.8], [0.9, 0.1], [1.0, 0.0]]))) == 2
    assert int(right_answers(logits, torch.full((3, 2), 0.5))) == 3  # either is as right as the other


@pytest.mark.parametrize("settings", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixing_keeps_what_there_is(settings: dict[str, float]) -> None:
    job = job_of(**settings)
    images, labels = batch(job)
    torch.manual_seed(3)
    mixed, targets = Objective(job).mixed(images, labels)
    assert mixed.shape == images.shape and targets.shape == (len(labels), 10)
    assert torch.allclose(targets.sum(1), torch.ones(len(labels)))
    assert not torch.equal(mixed, images)
    assert float(mixed.sum()) == pytest.approx(float(images.sum()), rel=0.05)
    torch.manual_seed(3)
    again, _ = Objective(job).mixed(images, labels)
    assert torch.equal(again, mixed)


def test_soft_labels_reach_the_loss() -> None:
    soft = torch.tensor([[0.6, 0.4], [0.1, 0.9], [0.5, 0.5]])
    split = Split(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0]), soft=soft)
    (_, targets), *_ = Batches(split, 3, mean=(0.5,), std=(1.0,), soft=True).epoch(0)
    assert torch.equal(targets, soft)
    with pytest.raises(ArgumentError, match="labels alone"):
        Batches(replace(split, soft=None), 3, mean=(0.5,), std=(1.0,), soft=True)
    with pytest.raises(ArgumentError, match="`soft_labels` needs data where people disagree"):
        job_of(soft_labels=True)


# --- the teacher ----------------------------------------------------------------------------------------------------------


def test_teacher_sees_images_with_its_own_mean(teacher: Run) -> None:
    data = teacher.dataset()
    job = job_of(teacher=str(teacher.path))
    shifted = replace(job.dataset, mean=(0.1,), std=(0.9,))
    from slimnet.training.teacher import load_teacher

    taught = load_teacher(job.config, shifted, torch.device("cpu"), trust_code=True)
    assert taught is not None
    parts = [
        next(iter(Batches(data.test, 64, mean=mean, std=std).epoch(0)))[0]
        for mean, std in ((shifted.mean, shifted.std), (data.mean, data.std))
    ]
    assert torch.allclose(taught(parts[0]), teacher.load_model()(parts[1]), atol=1e-4)
    assert not taught(parts[0]).requires_grad


@pytest.mark.parametrize(("precision", "what"), [("fp32", "memory format"), ("auto", "precision")])
def test_what_is_measured_is_said(precision: str, what: str) -> None:
    said: list[str] = []
    config = TrainConfig(**SMALL | {"precision": precision, "channels_last": "auto"})  # type: ignore[arg-type]
    prepare(config, join_team("cpu"), weights=True, say=said.append, trust_code=config.model)
    assert [line for line in said if line.startswith("looking")] == [f"looking which {what} is faster here"]


def test_teacher_from_weights(teacher: Run) -> None:
    job = job_of(teacher=str(teacher.path / "model.safetensors"))
    images, _ = batch(job)
    assert job.teacher is not None
    assert torch.allclose(job.teacher(images), teacher.load_model()(images), atol=1e-5)


def test_the_network_and_its_teacher_are_compiled_where_that_was_asked_for(teacher: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda called, **_: compiled.append(getattr(called, "__self__", called)) or called)
    for asked in (False, True):
        job = job_of(teacher=str(teacher.path), compile=asked)
        assert job.teacher is not None
        assert job.joined_model() is job.model
        assert compiled == ([job.teacher.model, job.model] if asked else [])


def test_teacher_that_does_not_fit(teacher: Run, tmp_path: Path) -> None:
    job = job_of(teacher=str(teacher.path))
    from slimnet.training.teacher import load_teacher

    other = replace(job.dataset, classes=tuple("abcdefghij"))
    with pytest.raises(ModelError, match="was trained for classes"):
        load_teacher(job.config, other, torch.device("cpu"), trust_code=True)
    with pytest.raises(FileFormatError, match=r"none\.pth does not exist"):
        job_of(teacher=str(tmp_path / "none.pth"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileFormatError, match="is not a run"):
        job_of(teacher=str(tmp_path / "empty"))


def test_everything_together_ends_closed(teacher: Run, tmp_path: Path) -> None:
    settings = SMALL | {
        "method": FSDP(rate_cs=0.2, rate_gm=0.3, tau=4, finetune_epochs=1),
        "epochs": 4, "lr": 0.05, "teacher": str(teacher.path), "ema": 0.9, "mixup": 0.2, "cutmix": 0.5, "class_weights": 0.5,
        "augment": {"erase": 0.5},
    }  # fmt: skip
    whole = train(out=tmp_path / "whole", progress=False, **settings)
    assert all(int(closed.sum()) == len(closed) // 2 for closed in whole.masks().values())
    assert whole.config.teacher == str(teacher.path) and whole.config.augment == {"erase": 0.5}


# --- averaged weights -----------------------------------------------------------------------------------------------------


def test_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = make_average(model, 0.5)
    assert average is not None and make_average(model, 0.0) is None
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 4.0]):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = value if step == 0 else decay * expected + (1 - decay) * value
    assert float(average.module.weight.detach()) == pytest.approx(expected)


def test_tables_of_indices_are_not_averaged() -> None:
    model = nn.BatchNorm1d(2)
    model.register_buffer("table", torch.tensor([5, 7, 9]))
    average = make_average(model, 0.999)
    assert average is not None
    for _ in range(50):
        model(torch.randn(4, 2))
        average.update_parameters(model)
    assert average.module.table.tolist() == [5, 7, 9] and int(average.module.num_batches_tracked) == 50


def test_closed_filters_are_closed_in_the_average() -> None:
    model = nn.Conv2d(1, 3, 3)
    average = make_average(model, 0.9)
    assert average is not None
    average.update_parameters(model)
    with torch.no_grad():
        model.weight[1] = 0
    average.update_parameters(model)
    assert bool((average.module.weight[1] != 0).any())
    close_average(average.module, model)
    assert bool((average.module.weight[1] == 0).all()) and bool((average.module.weight[0] != 0).all())


# --- settings -------------------------------------------------------------------------------------------------------------

WRONG = [
    ({"ema": 1.0}, "`ema` must be in"),
    ({"mixup": -1}, "`mixup` must be 0 or a positive number"),
    ({"distill_weight": 1.5}, "`distill_weight` must be in"),
    ({"teacher_views": "both"}, "`teacher_views` must be one of one, flip, ten-crop"),
    ({"distill_temperature": 0}, "`distill_temperature` must be a positive number"),
    ({"class_weights": 2}, "`class_weights` must be in"),
    ({"augment": {"flop": 1}}, "`augment` must be changes of crop_padding, flip"),
    ({"soft_labels": 1}, "`soft_labels` must be true or false"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_wrong_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        TrainConfig(**SMALL | settings)  # type: ignore[arg-type]


def test_augmentation_is_changed_in_part() -> None:
    plain = load_config_data(TrainConfig(model="resnet8"))
    changed = load_config_data(TrainConfig(model="resnet8", augment={"erase": 0.25, "crop_padding": 0}))
    assert plain.augment is not None
    assert changed.augment == replace(plain.augment, erase=0.25, crop_padding=0)
    with pytest.raises(ArgumentError, match="`erase` must be from 0 to 1"):
        load_config_data(TrainConfig(model="resnet8", augment={"erase": 2}))
    for wrong in ({"flip": 1}, {"crop_padding": 1.5}, {"crop_padding": 10**9}):
        with pytest.raises(ArgumentError, match="must be"):
            load_config_data(TrainConfig(model="resnet8", augment=wrong))
    assert Augment() == Augment(4, True, 0.0, 0.0, 0.0)


# --- views and F1 ---------------------------------------------------------------------------------------------------------


class Left(nn.Module):
    """Says 1 where the left half of an image is the brighter one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[3] // 2
        score = x[..., :half].mean((1, 2, 3)) - x[..., half:].mean((1, 2, 3))
        return torch.stack([-score, score], dim=1)


def test_views_are_averaged_and_declared() -> None:
    images = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
    images[0, :, :, :8] = 255
    images[1, :, :, 8:] = 255
    split = Split(images, torch.tensor([1, 0]))
    plain = evaluate(Left(), split, mean=(0.0,), std=(1.0,))
    assert plain.accuracy == 1 and plain.views == "one" and plain.macro_f1 == 1
    for views in ("flip", "ten-crop"):
        mean = evaluate(Left(), split, mean=(0.0,), std=(1.0,), views=views)  # type: ignore[arg-type]
        assert mean.loss == pytest.approx(torch.tensor(2.0).log().item(), rel=1e-4)  # mirrored halves cancel out
        assert mean.as_dict()["views"] == views
    with pytest.raises(ArgumentError, match="`views` must be one of one, flip, ten-crop"):
        evaluate(Left(), split, mean=(0.0,), std=(1.0,), views="five")  # type: ignore[arg-type]


def test_macro_f1_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (200, 1, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.randint(2, (200,), generator=generator)
    result = evaluate(Left(), Split(images, labels), mean=(0.0,), std=(1.0,))
    found = Left()(images.float()).argmax(1)
    assert result.macro_f1 == pytest.approx(f1_score(labels, found, average="macro"))
    assert result.f1 == pytest.approx(f1_score(labels, found, average=None))


# --- the record of selections ---------------------------------------------------------------------------------------------


def test_selection_round_trip(tmp_path: Path) -> None:
    chosen = {"a": torch.tensor([True, False, True]), "b": torch.rand(17) > 0.5}
    append_selection(tmp_path, 0, chosen)
    (read,) = read_selection(tmp_path, {"a": 3, "b": 17})
    assert {name: value.tolist() for name, value in read.items()} == {name: value.tolist() for name, value in chosen.items()}
    assert read_selection(tmp_path / "none", {}) == []
    with pytest.raises(FileFormatError, match=r"selection.jsonl, line 1, does not fit the groups"):
        read_selection(tmp_path, {"a": 3, "b": 99})


def test_a_run_records_its_selection(tmp_path: Path) -> None:
    method = FSDP(rate_cs=0.2, rate_gm=0.3, tau=4, finetune_epochs=1)
    run = train(out=tmp_path / "run", epochs=3, lr=0.05, method=method, progress=False, **SMALL)
    sizes = {group.name: group.size for group in run.groups}
    lines = read_selection(run.path, sizes)
    assert len(lines) == 3
    assert {name: value.tolist() for name, value in lines[-1].items()} == {k: v.tolist() for k, v in run.masks().items()}
    assert sum(sum(row) for row in run.result["test_confusion"]) == run.result["test_images"]
    assert 0 <= run.result["test_macro_f1"] <= 1


def test_resuming_drops_selections_of_later_epochs(tmp_path: Path) -> None:
    chosen = {"a": torch.tensor([True, False])}
    for epoch in (2, 3, 4):  # a run of stages: no mask before epoch 2
        append_selection(tmp_path, epoch, chosen)
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"epoch": {epoch}}}\n' for epoch in range(5)))
    keep_epochs(tmp_path, 3)
    assert [json.loads(line)["epoch"] for line in (tmp_path / "selection.jsonl").read_text().splitlines()] == [2]
