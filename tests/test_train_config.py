"""The settings of a run: to JSON and back, the learning rate, what decays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slimnet.errors import ArgumentError, FileFormatError
from slimnet.methods import FSDP
from slimnet.settings import check_names
from slimnet.training import TrainConfig
from slimnet.training.optim import learning_rate, make_optimizer
from test_resume import small_net

CONFIGS = [
    TrainConfig(model="resnet20"),
    TrainConfig(model="resnet8", method=FSDP(faithful=True), milestones=(2, 5), channels_last=False, init="a.pth"),
    TrainConfig(model="a.b:c", method=FSDP(0.2, 0.3, tau=4.0), optimizer="adamw", schedule="cosine", image_size=64),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_config_survives_json(config: TrainConfig) -> None:
    assert TrainConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_config_names_unknown_keys() -> None:
    with pytest.raises(FileFormatError, match="unknown setting `epoch`: did you mean `epochs`"):
        TrainConfig.from_dict({"model": "resnet20", "epoch": 3})
    with pytest.raises(FileFormatError, match="no `model`"):
        TrainConfig.from_dict({})
    with pytest.raises(ArgumentError, match="known: model, data"):
        check_names(["zzzzzzzz"])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"epochs": 200}, {0: 0.01, 1: 0.1, 59: 0.1, 60: 0.02, 120: 0.004, 160: 0.0008, 199: 0.0008}),
        ({"epochs": 10, "milestones": (4,), "gamma": 0.1, "warmup_epochs": 0}, {0: 0.1, 3: 0.1, 4: 0.01, 9: 0.01}),
        ({"epochs": 10, "schedule": "cosine", "warmup_epochs": 0}, {0: 0.1, 5: 0.05, 10: 0.0}),
        ({"epochs": 12, "schedule": "cosine", "warmup_epochs": 2}, {0: 0.01, 1: 0.055, 2: 0.1, 7: 0.05}),
        ({"epochs": 10, "schedule": "constant", "warmup_epochs": 0}, {0: 0.1, 9: 0.1}),
        ({"epochs": 1, "schedule": "cosine"}, {0: 0.01}),
    ],
)
def test_learning_rate(settings: dict[str, Any], expected: dict[int, float]) -> None:
    config = TrainConfig(model="resnet20", lr=0.1, **settings)
    assert {epoch: learning_rate(config, epoch) for epoch in expected} == pytest.approx(expected)


def test_warm_up_rises_step_by_step() -> None:
    config = TrainConfig(model="resnet20", lr=1.0, warmup_epochs=2)
    assert learning_rate(config, 0, 0.5) == pytest.approx(0.1 + 0.9 / 4)


@pytest.mark.parametrize("decay_norm", [True, False])
def test_norms_decay_as_published_unless_told_otherwise(decay_norm: bool) -> None:
    optimizer = make_optimizer(small_net(10, 1), TrainConfig(model="x", decay_norm=decay_norm, weight_decay=0.1))
    decays = {group["weight_decay"]: len(group["params"]) for group in optimizer.param_groups}
    assert decays == ({0.1: 9} if decay_norm else {0.1: 3, 0.0: 6})
