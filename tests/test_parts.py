"""Submodules of a network that cannot be followed as a whole: cut, put back, exported by themselves."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import detection

import imagined_costs
import slimnet
from command import slimnet_cli
from slimnet.errors import ArgumentError, GraphError
from slimnet.measure.costs import Site
from slimnet.onnx.session import open_session
from slimnet.parts import catch_part
from slimnet.surgery import Plan

MODULE = """
import torch
from torch import nn

class Backbone(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.down, self.more = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.flat = nn.Conv2d(16, 16, 1)
    def forward(self, x):
        fine = self.flat(self.down(self.norm(self.stem(x)).relu()).relu()).relu()
        return {"fine": fine, "coarse": self.flat(self.more(fine)).relu()}

class Head(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.tower = nn.Conv2d(16, 12, 3, padding=1)
        self.boxes, self.scores = nn.Conv2d(12, 4, 1), nn.Conv2d(12, num_classes, 1)
    def forward(self, maps, scale):
        towers = [self.tower(each).relu() * scale for each in maps]
        return {"boxes": torch.cat([self.boxes(t).flatten(2) for t in towers], 2),
                "scores": torch.cat([self.scores(t).flatten(2) for t in towers], 2)}

class Detector(nn.Module):
    reads = None
    def __init__(self, in_channels=3, num_classes=4):
        super().__init__()
        self.backbone, self.head = Backbone(in_channels), Head(num_classes)
    def forward(self, x):
        found = self.backbone(x)
        size = [each.shape[-1] for each in found.values()]
        out = self.head(list(found.values()), 0.5)
        if self.reads == "values":
            out["scores"] = out["scores"] + found["coarse"].mean()
        if self.reads == "count":
            out["scores"] = out["scores"] * found["coarse"].shape[1]
        answers = []
        for boxes, scores in zip(out["boxes"], out["scores"]):
            best = scores.sigmoid().amax(0) > 0.5
            answers.append({"boxes": boxes[:, best] * size[0], "scores": scores[:, best]})
        return answers
"""


def detector(folder: Path, reads: str | None = None) -> nn.Module:
    """A backbone of two maps, a head over both, and boxes that depend on the data."""
    (folder / "nets.py").write_text(MODULE)
    torch.manual_seed(0)
    model = slimnet.build_model(f"{folder / 'nets.py'}:Detector", num_classes=4)
    model.reads = reads  # type: ignore[assignment]
    for each in model.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.normal_(each.bias)
    return model.eval()


X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def same(one: Any, other: Any) -> None:
    for a, b in zip(one, other, strict=True):
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("part", "outputs"), [("backbone", ["fine", "coarse"]), ("backbone+head", ["boxes", "scores"]), ("head", ["boxes", "scores"])]
)
def test_a_part_is_cut_put_back_and_exported(part: str, outputs: list[str], tmp_path: Path) -> None:
    model = detector(tmp_path)
    said = r"size of what operator aten.* gives depends on the data \(.*--part backbone \(`part` in Python\), of backbone, head$"
    with pytest.raises(GraphError, match=said) as caught:
        slimnet.slim(model, X, as_graph=True)
    assert "\n" not in str(caught.value)
    slimnet.prune(model, X, rate=0.5, part=part)
    result = slimnet.slim(model, X, part=part)
    assert result.report.removed == result.report.closed > 0
    assert type(result.model) is type(model)
    same(result.model(X), model(X))
    assert any(check.what == "whole" for check in result.report.verification.checks)
    again = Plan.from_dict(result.plan.as_dict()).apply(copy.deepcopy(model))
    same(again(X), model(X))
    report = slimnet.export_onnx(result.model, X, tmp_path / "part.onnx", reference=model, part=part)
    assert [spec.name for spec in open_session(tmp_path / "part.onnx").outputs] == outputs
    assert {check.output for check in report.checks} == set(outputs)


def test_what_only_the_part_reads_goes_too(tmp_path: Path) -> None:
    """The maps between backbone and head: 16 channels, whose shape alone the rest of the network looks at."""
    model = detector(tmp_path)
    slimnet.prune(model, X, rate=0.5, part="backbone+head")
    small = slimnet.slim(model, X, part="backbone+head").model
    assert small.get_submodule("head.tower").in_channels == 8


@pytest.mark.parametrize("reads", ["values", "count"])
def test_what_others_read_stays(reads: str, tmp_path: Path) -> None:
    """Values are seen by who reads them; the number of channels by another answer."""
    model = detector(tmp_path, reads)
    caught = catch_part(model, X, "backbone+head")
    assert caught.inner
    assert [step.leaving for step in caught.module.steps] == [(1,) if reads == "values" else (), (0, 1)]
    names = ["backbone.coarse", "head.boxes", "head.scores"] if reads == "values" else ["boxes", "scores"]
    assert list(caught.module(X)) == names
    slimnet.prune(model, X, rate=0.5, part="backbone+head")
    result = slimnet.slim(model, X, part="backbone+head")
    same(result.model(X), model(X))
    assert result.model.get_submodule("head.tower").in_channels == 16
    assert result.model.get_submodule("head.tower").out_channels == 6


class Twice(nn.Module):
    """One submodule run twice, one never, one whose weight others use, one within another, one that takes what holds tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.used = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.outer = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
        self.boxed, self.quiet, self.once = Boxed(), Quiet(), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(x))
        x = self.outer(self.used(x)) + self.used.weight.sum()
        self.quiet(x)
        return self.once(self.boxed(Images(x)))


class Images:
    def __init__(self, tensors: Tensor) -> None:
        self.tensors = tensors


class Boxed(nn.Module):
    def forward(self, images: Images) -> Tensor:
        return images.tensors + 1


class Quiet(nn.Module):
    def forward(self, x: Tensor) -> str:
        return "nothing"


REFUSED: list[tuple[str, type[Exception], str]] = [
    ("onces", ArgumentError, "`part` 'onces' is no submodule of Twice: did you mean `once`"),
    ("xyz", ArgumentError, "no submodule of Twice; there are: twice, never"),
    ("", ArgumentError, "`part` '' is no submodule"),
    ("once+once", ArgumentError, "names 'once' twice"),
    ("outer+outer.0", ArgumentError, "'outer.0' is in 'outer' already"),
    ("twice", GraphError, "twice runs more than once in the network"),
    ("never", GraphError, "never does not run in the network"),
    ("used", GraphError, "used.weight is used outside of its module too"),
    ("boxed", GraphError, "boxed takes a Images, which holds tensors of its own"),
    ("quiet", GraphError, "quiet gives no tensors"),
]


@pytest.mark.parametrize(("part", "kind", "said"), REFUSED, ids=[part for part, _, _ in REFUSED])
def test_what_is_no_part(part: str, kind: type[Exception], said: str) -> None:
    model = Twice()
    with pytest.raises(kind, match=said):
        catch_part(model, torch.randn(1, 3, 4, 4), part)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_part_through_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = detector(tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.save(model.state_dict(), "weights.pth")
    network = ("--model", "nets.py:Detector", "--num-classes", 4, "--in-channels", 3, "--image-size", 32)
    part = ("--part", "backbone+head")
    for arguments in (("inspect", "weights.pth", *network, *part),
                      ("prune", "weights.pth", *network, *part, "--flops", 0.5, "--out", "pruned"),
                      ("slim", "pruned/model.safetensors", *network, *part, "--out", "small"),
                      ("verify", "small", "--trust-code")):  # fmt: skip
        done = slimnet_cli(*map(str, arguments))
        assert done.status == 0, done.err
    report = json.loads(Path("small/report.json").read_text())
    assert report["part"] == "backbone+head"
    assert report["cost"]["after"]["flops"] <= 0.5 * report["cost"]["before"]["flops"]
    masked = copy.deepcopy(model)
    masked.load_state_dict(load_file("pruned/model.safetensors"))
    same(slimnet.load_slim("small", trust_code=True)(X), masked(X))
    done = slimnet_cli(*map(str, ("slim", "small/model.onnx", *part, "--out", "no")))
    assert done.status == 1
    assert "`part` is for modules" in done.err
    assert not Path("no").exists()


NETWORK = ("--model", "nets.py:Detector", "--num-classes", 4, "--in-channels", 3, "--image-size", 32)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imagined: object) -> nn.Module:
    """The weights in ``weights.pth`` of a detector whose layers cost what the imagined machine says."""
    model = detector(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    torch.save(model.state_dict(), "weights.pth")
    return model


def run(*arguments: object) -> Any:
    done = slimnet_cli(*map(str, (*arguments, "--json")))
    assert done.status == 0, done.err
    return done.json


def work(site: Site, *ends: int) -> float:
    """Microseconds of a machine that takes three times as long for widths that are no multiple of 4."""
    return site.output_size[0] ** 2 * math.prod(ends) / 1e3 * (3 if any(width % 4 for width in ends) else 1)


TARGETS = [
    (("--target-flops", 0.5), lambda report, left: left <= 0.5),
    (("--target-speedup", 1.5), lambda report, left: report["allocation"]["predicted"]["speedup"] >= 1.5 and left < 1),
]


@pytest.mark.parametrize(("target", "met"), TARGETS, ids=["flops", "speedup"])
@pytest.mark.parametrize("part", ["backbone+head", "head"])
def test_a_target_for_a_part(
    part: str, target: tuple[Any, ...], met: Callable[..., bool], saved: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it costs is that of the part alone, whose layers run on maps of two sizes; the head alone takes two inputs."""
    monkeypatch.setattr(imagined_costs, "staircase", work)
    report = run("prune", "weights.pth", *NETWORK, "--part", part, *target, "--out", "pruned")
    assert set(report["allocation"]["kept"]) <= {group["name"] for group in report["groups"]}
    assert {layer["name"].partition(".")[0] for layer in report["allocation"]["layers"]} == set(part.split("+"))
    small = run("slim", "pruned/model.safetensors", *NETWORK, "--part", part, "--out", "small")
    cost = small["cost"]
    assert met(report, cost["after"]["flops"] / cost["before"]["flops"])
    masked = copy.deepcopy(saved)
    masked.load_state_dict(load_file("pruned/model.safetensors"))
    same(slimnet.load_slim("small", trust_code=True)(X), masked(X))


def test_channels_of_a_part_that_stay_for_speed(saved: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 channels of the tower, of which 5 close: 8 take less time than 7."""
    monkeypatch.setattr(imagined_costs, "staircase", work)
    run("prune", "weights.pth", *NETWORK, "--part", "backbone+head", "--rate", 0.45, "--out", "pruned")
    widths = []
    for align in ((), ("--align", "auto")):
        report = run("slim", "pruned/model.safetensors", *NETWORK, "--part", "backbone+head", *align, "--out", "small", "--force")
        kept = {group["name"]: group["kept"] for group in report["groups"]}
        widths.append(kept["head.tower"])
    assert widths == [7, 8]
    masked = copy.deepcopy(saved)
    masked.load_state_dict(load_file("pruned/model.safetensors"))
    same(slimnet.load_slim("small", trust_code=True)(X), masked(X))


def test_class_statistics_of_a_part(saved: nn.Module) -> None:
    """The whole network runs on the images, whatever it gives; gradients need logits of it."""

    one = slimnet.build_model("nets.py:Detector", num_classes=4, in_channels=1)
    torch.save(one.state_dict(), "weights.pth")
    network = (*NETWORK[:-3], 1, "--image-size", 8, "--part", "backbone+head", "--data", "digits")
    run("prune", "weights.pth", *network, "--rate", 0.5, "--criterion", "cs", "--out", "pruned")
    for flags in (("--rate", 0.5, "--criterion", "taylor"), ("--target-flops", 0.5)):
        done = slimnet_cli(*map(str, ("prune", "weights.pth", *network, *flags, "--out", "no")))
        assert done.status == 1
        assert "slimnet: error: Detector gives a list, no logits (N, classes)" in done.err
        assert done.err.count("error") == 1 and not Path("no").exists()
    run("prune", "weights.pth", *network, "--target-flops", 0.5, "--allocate-by", "energy", "--out", "by-energy")


DETECTORS: dict[str, Callable[[Any], tuple[nn.Module, Tensor]]] = {
    "ssdlite320_mobilenet_v3_large": lambda made: (made(num_classes=5), torch.rand(2, 3, 320, 320)),
    "retinanet_resnet50_fpn": lambda made: (made(num_classes=5, min_size=64, max_size=64), torch.rand(2, 3, 64, 64)),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_of_torchvision(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """torch.export stops in boxes.py; backbone and head are cut to less than half of their weights."""
    torch.manual_seed(0)
    made = getattr(detection, name)
    model, x = DETECTORS[name](partial(made, weights=None, weights_backbone=None))
    model.eval()
    with pytest.raises(GraphError, match=r"boxes\.py.*--part backbone"):
        slimnet.slim(model, x, as_graph=True)
    slimnet.prune(model, x, rate=0.5, part="backbone+head")
    result = slimnet.slim(model, x, part="backbone+head")
    assert result.report.removed == result.report.closed
    assert result.report.params_after < 0.5 * result.report.params_before
    assert result.report.verification.worst < 1e-9
    assert capfd.readouterr() == ("", "")
