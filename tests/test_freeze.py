"""Layers that are not trained, dropout as it is asked for, and precision chosen once for a machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from slimnet.errors import ArgumentError
from slimnet.methods import FSDP, Dense
from slimnet.models import build_model
from slimnet.training import Run, TrainConfig, number_format, train
from slimnet.training import number_format as trials
from slimnet.training.network import freeze, frozen_modules, set_dropout, train_mode
from slimnet.training.number_format import resolve_precision
from slimnet.training.team import join_team
from slimnet_cli.train import command
from test_finish import flat_net

QUICK: dict[str, Any] = {
    "model": "test_finish:flat_net", "epochs": 2, "batch_size": 128, "lr": 0.05,
    "precision": "fp32", "channels_last": False, "device": "cpu", "progress": False,
}  # fmt: skip


def start(out: Path, **settings: Any) -> Run:
    return train(out=out, **QUICK | settings)


@pytest.mark.parametrize("method", [Dense(), FSDP(rate_cs=0.0, rate_gm=0.3)], ids=["dense", "fsdp"])
def test_frozen_layers_stay(method: Any, tmp_path: Path) -> None:
    first = start(tmp_path / "first", method=Dense(), epochs=1)
    init = str(first.path / "model.safetensors")
    run = start(tmp_path / "run", init=init, method=method, freeze=("0", "1", "5"), cut="never", reestimate_norm=True)
    before, after = first.load_model().state_dict(), run.load_model().state_dict()
    frozen = (
        ("5.weight", "5.running_mean", "5.running_var", "0.bias")
        if method.name == "dense"
        else ("1.running_mean", "5.running_var")
    )
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    assert not torch.equal(after["4.weight"], before["4.weight"])
    assert Run.open(run.path).config.freeze == ("0", "1", "5")
    if method.name == "fsdp":  # what is frozen can be closed, and what is not closed is as it was
        live = ~run.masks()["0"]
        assert 0 < int(live.sum()) < len(live)
        assert torch.equal(after["0.weight"][live], before["0.weight"][live])


def test_a_frozen_run_can_be_resumed_and_cut(tmp_path: Path) -> None:
    settings = {"method": FSDP(rate_cs=0.0, rate_gm=0.3, finetune_epochs=2), "epochs": 4, "freeze": ("0", "1")}
    run = start(tmp_path / "run", **settings)
    (run.path / "model.safetensors").unlink()
    again = train(out=run.path, resume=True, freeze=["0", "1"], progress=False, trust_code=True)
    assert again.result == run.result


def test_patterns() -> None:
    model = build_model("vggface_gap", num_classes=7, in_channels=1)
    freeze(model, ("conv_*",))
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == ["fc8.weight", "fc8.bias"]
    resnet = build_model("resnet8", num_classes=7)
    inside = frozen_modules(resnet, ("layer1",))
    assert set(inside) == set(resnet.get_submodule("layer1").modules())
    train_mode(resnet, ("layer1",))
    assert {module.training for module in inside} == {False}
    assert resnet.training
    assert frozen_modules(resnet, ()) == ()


BAD = [
    ({"freeze": ("9",)}, "`freeze` names '9', like which no layer with weights is named; there are 0, 1, 4, 5, 7"),
    ({"freeze": ("3",)}, "`freeze` names '3', like which no layer with weights"),
    ({"freeze": ("*",)}, "nothing is left to be trained"),
    ({"freeze": "0"}, "`freeze` must be names of layers, or patterns of names, got '0'"),
    ({"freeze": (1,)}, "`freeze` must be names of layers"),
    ({"dropout": 0.5}, "`dropout` is 0.5, but the network has no dropout layer"),
    ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\), got 1.0"),
    ({"normalise": "0,0"}, "`normalise` must be 'dataset', 'imagenet', or 'MEAN,STD' with STD above 0, got '0,0'"),
    ({"normalise": "0,nan"}, "`normalise` must be"),
    ({"normalise": "1"}, "`normalise` must be"),
]


@pytest.mark.parametrize(("settings", "message"), BAD, ids=str)
def test_bad_settings(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        start(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_dropout_is_what_was_asked_for(tmp_path: Path) -> None:
    model = build_model("vgg9_face", num_classes=7, in_channels=1)
    own = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    set_dropout(model, None)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == own == [0.3]
    set_dropout(model, 0.7)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.7]
    runs = [
        start(tmp_path / f"{p}", model="vgg9_face", image_size=16, epochs=1, train_fraction=0.1, batch_size=64, dropout=p)
        for p in (0.0, 0.9)
    ]
    assert runs[0].metrics[0]["train_loss"] != runs[1].metrics[0]["train_loss"]


def test_the_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def stop(**settings: Any) -> None:
        asked.update(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("slimnet.training.train", stop)
    with pytest.raises(KeyboardInterrupt):
        command.callback(  # type: ignore[misc]
            **command.make_context(
                "train",
                [
                    "--model",
                    "resnet8",
                    "--freeze",
                    "layer1",
                    "--freeze",
                    "conv*",
                    "--dropout",
                    "0",
                    "--normalise",
                    "0,0.1",
                    "--out",
                    "x",
                ],
            ).params
        )
    assert TrainConfig(**{k: v for k, v in asked.items() if k in ("model", "freeze", "dropout", "normalise")}) == TrainConfig(
        model="resnet8", freeze=("layer1", "conv*"), dropout=0.0, normalise="0,0.1"
    )
    monkeypatch.undo()


# --- precision ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "slimnet"


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch) -> list[trials.Option]:
    """The option that is measured to be the fastest, one a measurement."""
    fast: list[trials.Option] = []

    def measure(options: list[trials.Option], *_: object) -> dict[trials.Option, float]:
        winner = fast.pop(0)
        return {option: 1.0 if option == winner else 2.0 for option in options}

    monkeypatch.setattr(trials, "measure", measure)
    return fast


def resolved(size: int = 8, **settings: Any) -> tuple[str, Any]:
    config = TrainConfig(model="test_finish:flat_net", device="cpu", **settings)
    batch = (torch.randn(4, 1, size, 8), torch.zeros(4, dtype=torch.int64))
    found = resolve_precision(config, flat_net(10, 1), batch, join_team("cpu"))
    return found.precision, found.channels_last


def test_what_was_measured_once_holds(cache: Path, timings: list[trials.Option], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "has_bf16", lambda: True)
    timings += [("bf16", True), ("fp32", True), ("fp32", False), ("fp32", True)]
    assert resolved() == ("bf16", True)
    assert resolved() == ("bf16", True)
    assert len(timings) == 3
    assert resolved(size=9) == ("fp32", True)  # other images
    (first, _) = sorted(cache.glob("precision-*.json"), key=lambda path: path.stat().st_mtime_ns)
    content = json.loads(first.read_text())
    assert content["chosen"] == ["bf16", True]
    assert {"cpu", "threads", "torch", "network", "images"} <= content["about"].keys()
    for damage in ("", "{", json.dumps({**content, "chosen": ["fp8", True]}), json.dumps({**content, "about": {}}), "[]"):
        first.write_text(damage)
        timings[:] = [("fp32", False)]
        assert resolved() == ("fp32", False)
        assert resolved() == ("fp32", False)


def test_without_a_place_to_write_it_is_measured_again(
    tmp_path: Path, timings: list[trials.Option], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    timings += [("fp32", True), ("fp32", False)]
    assert [resolved(precision="fp32") for _ in range(2)] == [("fp32", True), ("fp32", False)]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, [("fp32", False), ("fp32", True)]),
        ({"channels_last": True}, []),  # nothing is left to be measured
        ({"precision": "bf16", "channels_last": True}, []),  # as asked
    ],
    ids=str,
)
def test_bf16_is_not_for_processors_that_imitate_it(
    settings: dict[str, Any], options: list[trials.Option], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(trials, "has_bf16", lambda: False)
    monkeypatch.setattr(trials, "measure", lambda given, *_: seen.extend(given) or dict.fromkeys(given, 1.0))
    assert resolved(**settings) == (settings.get("precision", "fp32"), settings.get("channels_last", False))
    assert seen == options


def test_instructions_for_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_format.platform, "machine", lambda: "x86_64")
    for avx, amx in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        assert number_format.has_bf16() == (avx or amx)
    monkeypatch.setattr(number_format.platform, "machine", lambda: "aarch64")
    assert number_format.has_bf16()


def test_two_runs_are_one_network(
    cache: Path, timings: list[trials.Option], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trials, "has_bf16", lambda: True)
    timings += [("bf16", True), ("fp32", False)]
    runs = [start(tmp_path / name, epochs=1, precision="auto", channels_last="auto") for name in "ab"]
    assert [(run.config.precision, run.config.channels_last) for run in runs] == [("bf16", True)] * 2
    one, other = (run.load_model().state_dict() for run in runs)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
