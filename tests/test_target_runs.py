"""Where widths for a target are used: surgery, pruning, training, a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from imagined_costs import BLOCKS
from listeners import Heard
from slimnet import FSDP, SFP, Dense, OneShot, Stages, build_model, channel_groups, prune, slim, train
from slimnet.allocation import fit, padded_widths, slim_aligned
from slimnet.commands import export_run, prune_checkpoint, write_report
from slimnet.errors import ArgumentError
from slimnet.graph import prunable
from slimnet.measure import count
from slimnet.progress import listening
from test_targets import network


def test_padding_pays_where_the_kernels_want_it(imagined: object, tmp_path: Path) -> None:
    cost, scores = network(tmp_path)
    sizes = {name: len(values) for name, values in scores.items()}
    narrow = {name: size - 3 for name, size in sizes.items()}
    wider = padded_widths(cost, narrow, sizes, BLOCKS)
    assert set(wider) == set(sizes) and all(width % 4 == 0 for width in wider.values())
    assert cost.milliseconds(wider) < 0.7 * cost.milliseconds(narrow)
    assert padded_widths(cost, sizes, sizes, BLOCKS) == {}
    suiting = {name: size - 4 for name, size in sizes.items()}
    assert padded_widths(cost, suiting, sizes, BLOCKS) == {}  # 12 of 16 take as long as 16


def test_surgery_keeps_the_widths_asked_for(imagined: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, x = build_model("resnet8", num_classes=10).eval(), torch.randn(2, 3, 16, 16)
    prune(model, x, rate=0.3)
    plain, padded = (slim_aligned(model, x, align) for align in (None, "auto"))  # type: ignore[arg-type]
    widths_of = [{group.name: len(group.kept) for group in result.plan.groups} for result in (plain, padded)]
    assert all(after >= before for before, after in zip(widths_of[0].values(), widths_of[1].values(), strict=True))
    assert all(width % 4 == 0 for name, width in widths_of[1].items() if name != "linear")
    assert torch.allclose(plain.model(x), padded.model(x), atol=1e-5)
    assert any("run faster here" in reason for group in padded.plan.groups for reason in group.reasons)


def test_prune_to_widths() -> None:
    model, x = build_model("resnet8", num_classes=10).eval(), torch.randn(2, 3, 16, 16)
    groups = {group.name: group.size for group in prunable(channel_groups(model, x))}
    first, second = list(groups)[:2]
    mask = prune(model, x, widths={first: 3, second: groups[second]})
    closed = {name: int(gone.sum()) for name, gone in mask.closed().items()}
    assert closed == {**dict.fromkeys(groups, 0), first: groups[first] - 3}
    for wrong, message in (({"none": 3}, "'none', which is no channel group"), ({first: -1}, "must be from 0 to")):
        with pytest.raises(ArgumentError, match=message):
            prune(model, x, widths=wrong)
    with pytest.raises(ArgumentError, match="either `rate` or `widths`"):
        prune(model, x)


def test_training_to_a_target(imagined: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = {"model": "resnet8", "data": "digits", "precision": "fp32", "channels_last": False, "device": "cpu", "lr": 0.05}
    method = FSDP(tau=4, finetune_epochs=1)
    run = train(out=tmp_path / "run", epochs=3, method=method, target={"flops": 0.4}, progress=False, **settings)
    widths = dict(run.method.widths)
    assert widths and all(width % 4 == 0 for width in widths.values())
    kept = {group.name: group.size - int(run.masks()[group.name].sum()) for group in run.groups}
    assert kept == {group.name: widths.get(group.name, group.size) for group in run.groups}
    x = run.example_input()
    small = slim(run.load_model(), x).model
    assert count(small, x[:1]).flops <= 0.41 * count(run.build_model(), x[:1]).flops
    assert train(out=run.path, resume=True, progress=False).config == run.config
    assert run.target is not None and run.target["target"] == {"flops": 0.4} and run.target["predicted"]["flops_left"] <= 0.4
    assert (run.target["threads"], run.target["batch"]) == (1, 1)
    assert export_run(run.path, tmp_path / "bundle").report["target"] == run.target
    with pytest.raises(ArgumentError, match="`target` needs a soft filter method"):
        train(out=tmp_path / "dense", method=Dense(), target={"flops": 0.4}, epochs=3, progress=False, **settings)
    again = train(out=run.path, resume=True, method=method, target={"flops": 0.4}, progress=False)
    assert again.method.widths == run.method.widths
    for odd, message in (({"method": FSDP(couple="none")}, "coupled streams"), ({"target": {"ms": 1e6}}, "meets the target ms")):
        with pytest.raises(ArgumentError, match=message):
            train(out=tmp_path / "no", epochs=3, progress=False, **{"target": {"flops": 0.4}, "method": method} | settings | odd)
    with pytest.raises(ArgumentError, match="`target` must be one of speedup"):
        train(out=tmp_path / "odd", target={"speed": 0.4}, epochs=3, progress=False, **settings)


def test_training_shuts_branches(imagined: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = {"model": "resnet8", "data": "digits", "train_fraction": 0.1, "batch_size": 32, "precision": "fp32",
                "channels_last": False, "device": "cpu", "progress": False}  # fmt: skip
    method, target = FSDP(tau=2, cs_every=1, finetune_epochs=1), {"flops": 0.1}
    run = train(out=tmp_path / "run", epochs=3, method=method, target=target, shut_branches=True, **settings)
    assert [name for name, width in run.method.widths if width == 0] == ["layer1.0.conv1"]
    assert [name for name, closed in run.masks().items() if bool(closed.all())] == ["layer1.0.conv1"]
    bundle = export_run(run.path, tmp_path / "bundle")  # its parity gate holds the cut network against the masked one
    plan = json.loads((bundle.path / "plan.json").read_text(encoding="utf-8"))
    assert [shut["module"] for shut in plan["shuts"]] == ["layer1.0.bn2"]
    assert bundle.report["cost"]["slim"]["flops"] <= 0.1 * bundle.report["cost"]["dense"]["flops"]
    (run.path / "model.safetensors").unlink()
    again = train(out=run.path, resume=True, shut_branches=True, progress=False)
    assert (again.config, again.result) == (run.config, run.result)
    with pytest.raises(ArgumentError, match="`shut_branches` was True"):
        train(out=run.path, resume=True, shut_branches=False, progress=False)


def test_training_from_weights_is_allocated_by_loss(imagined: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = {"model": "resnet8", "data": "digits", "train_fraction": 0.1, "batch_size": 32, "precision": "fp32",
                "channels_last": False, "device": "cpu", "progress": False, "epochs": 2}  # fmt: skip
    first = train(out=tmp_path / "first", method=Dense(), **settings)
    weights = first.path / "model.safetensors"
    settings |= {"method": OneShot(), "target": {"speedup": 1.3}, "shut_branches": True, "init": str(weights)}
    runs = {by: train(out=tmp_path / by, allocate_by=by, **settings) for by in ("auto", "energy")}
    loss = {by: (run.target or {})["predicted"].get("loss") for by, run in runs.items()}
    assert loss["energy"] is None and loss["auto"] > 0
    assert 0 in dict(runs["auto"].method.widths).values()
    with pytest.raises(ArgumentError, match="`allocate_by` must be one of auto, energy, loss"):
        train(out=tmp_path / "odd", allocate_by="luck", **settings)
    report = prune_checkpoint(
        weights,
        tmp_path / "pruned",
        model="resnet8",
        num_classes=10,
        in_channels=1,
        image_size=8,
        target={"speedup": 1.3},
        shut_branches=True,
        data="digits",
    )
    assert report["allocation"]["predicted"]["loss"] > 0
    layers = report["allocation"]["layers"]
    assert [layer["name"] for layer in layers if not layer["reads_kept"]]  # the second layers of shut branches
    write_report(runs["auto"].path)
    assert (runs["auto"].path / "report" / "plan.png").is_file() and not (first.path / "report").exists()
    measured: list[object] = []
    monkeypatch.setattr(fit, "measure_sensitivity", lambda *given, **how: measured.append(given))
    with pytest.raises(ArgumentError, match="the target cannot be met"):
        train(out=tmp_path / "far", **settings | {"target": {"speedup": 1e4}})
    assert measured == [] and not (tmp_path / "far").exists()  # it is said before minutes of measuring
    with pytest.raises(ArgumentError, match="`allocate_by` 'loss' is for a target, and needs data"):
        prune_checkpoint(
            weights, tmp_path / "no", model="resnet8", num_classes=10, in_channels=1, target={"ms": 2.0}, allocate_by="loss"
        )


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"shut_branches": True}, "`shut_branches` is for a target"),
        ({"allocate_by": "energy"}, "`allocate_by` is for a target"),
        ({"shut_branches": True, "target": {"flops": 0.4}, "method": FSDP(mask_norm=False)}, "leave `mask_norm` on"),
        ({"method": FSDP(widths=(("layer1.0.conv1", 9),)), "target": {"flops": 0.4}}, "give either a `target` or a method"),
        ({"method": FSDP(widths=(("layer1", 0),))}, r"closes 'layer1' whole.*layer1\.0\.conv1"),
        ({"method": Stages((SFP(widths=(("layer1", 0),)), 1), (FSDP(), 1))}, "closes 'layer1' whole"),
    ],
)
def test_what_may_not_be_shut(odd: dict[str, Any], message: str, tmp_path: Path) -> None:
    settings = {"model": "resnet8", "data": "digits", "method": FSDP(), "epochs": 3, "device": "cpu"}
    with pytest.raises(ArgumentError, match=message):
        train(out=tmp_path / "no", progress=False, **settings | odd)
    assert not (tmp_path / "no").exists()


def test_prune_a_checkpoint_to_a_target(imagined: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights, out = tmp_path / "resnet8.pth", tmp_path / "out"
    torch.save(build_model("resnet8", num_classes=10).state_dict(), weights)
    with listening(Heard()) as told:
        report = prune_checkpoint(weights, out, model="resnet8", num_classes=10, in_channels=3, image_size=16,
                                  target={"params": 0.5})  # fmt: skip
    assert "measuring what layers cost on this machine" in told.finished() and all(told.finished().values())
    found = report["allocation"]
    assert found["target"] == {"params": 0.5} and found["predicted"]["params_left"] <= 0.5
    assert {g["name"]: g["size"] - g["closed"] for g in report["groups"]} == found["kept"]
    whole = sum(layer["ms"] for layer in found["layers"])
    assert 0.8 * found["predicted"]["ms"] < whole <= found["predicted"]["ms"]
    assert sum(9 * layer["reads_kept"] * layer["makes_kept"] for layer in found["layers"][:-1]) < 0.55 * sum(
        9 * layer["reads"] * layer["makes"] for layer in found["layers"][:-1]
    )
    with pytest.raises(ArgumentError, match="`shut_branches` is for a target"):
        prune_checkpoint(weights, tmp_path / "no", model="resnet8", num_classes=10, in_channels=3, image_size=16,
                         rate=0.5, shut_branches=True)  # fmt: skip
    with pytest.raises(ArgumentError, match="needs coupled streams"):
        prune_checkpoint(weights, tmp_path / "no", model="resnet8", num_classes=10, in_channels=3, image_size=16,
                         target={"params": 0.5}, couple="none")  # fmt: skip
