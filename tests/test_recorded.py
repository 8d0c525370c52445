"""Networks whose control flow depends on data: recorded in several runs, cut, and compared on every path."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import roi_align

import slimnet
from command import slimnet_cli
from slimnet.errors import GraphError, VerificationError
from slimnet.graph.analysis import analyse
from slimnet.surgery import Plan

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(F.relu(self.norm(self.one(x))))


class Net(nn.Module):
    """A stem, two blocks and two classifiers; subclasses say which of them run."""

    def __init__(self, num_classes: int = 5, in_channels: int = 3) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(in_channels, 8, 3, padding=1), Block(8), Block(8)
        self.exit, self.last = nn.Linear(8, num_classes), nn.Linear(8, num_classes)


class Skips(Net):
    """The second block runs for images of much signal; what decides is the image."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.first(F.relu(self.stem(x)))
        maps = self.second(maps) if bool(x.abs().mean() > 1.0) else maps
        return {"early": self.exit(maps.mean((2, 3))), "late": self.last(maps.mean((2, 3)))}


class Exits(Net):
    """The first classifier ends it, where it is sure."""

    def forward(self, x: Tensor) -> Tensor:
        maps = self.first(F.relu(self.stem(x)))
        early: Tensor = self.exit(maps.mean((2, 3)))
        if early.softmax(1).max() > 0.5:
            return early
        out: Tensor = self.last(self.second(maps).mean((2, 3)))
        return out


class Mean(Net):
    """The mean of a stream decides: its channels count."""

    def forward(self, x: Tensor) -> Tensor:
        maps = self.first(F.relu(self.stem(x)))
        maps = self.second(maps) if maps.mean() > 0.2 else maps
        out: Tensor = self.last(maps.mean((2, 3))) + self.exit(maps.mean((2, 3)))
        return out


class Lists(Net):
    """The same, as Python sees it: torch does not note that the values are read."""

    def forward(self, x: Tensor) -> Tensor:
        maps = self.first(F.relu(self.stem(x)))
        middle = maps.mean((0, 2, 3))
        values = self.read(middle)
        maps = self.second(maps) if max(values) > 0.5 else maps
        out: Tensor = self.last(maps.mean((2, 3))) + self.exit(maps.mean((2, 3)))
        return out

    def read(self, values: Tensor) -> Any:
        return values.tolist()


class Arrays(Lists):
    def read(self, values: Tensor) -> Any:
        return values.numpy()


class Counts(Net):
    """The number of channels is a factor: by verification alone it is seen that they count."""

    def forward(self, x: Tensor) -> Tensor:
        maps = F.relu(self.stem(x))
        maps = self.second(self.first(maps)) if x.abs().mean() > 0.1 else maps
        out: Tensor = self.last(maps.mean((2, 3))) * maps.shape[1] + self.exit(maps.mean((2, 3)))
        return out


class Boxes(nn.Module):
    """Features under boxes, which depend on the data, from one of two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.where, self.flat, self.score = nn.Conv2d(8, 1, 1), nn.Linear(8 * 4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = F.relu(self.stem(x))
        coarse = F.relu(self.down(fine))
        found = self.where(fine).sigmoid().flatten(1)
        answers = []
        for number in range(len(x)):
            at = torch.nonzero(found[number] > 0.5)[:, 0]
            corner = torch.stack([at % x.shape[3], at // x.shape[3]], 1).to(x)
            boxes = torch.cat([corner, corner + 3], 1)
            is_small = at % 2 == 0
            features = fine.new_zeros((len(at), fine.shape[1], 2, 2))
            features[is_small] = roi_align(fine[number : number + 1], [boxes[is_small]], 2)
            features[~is_small] = roi_align(coarse[number : number + 1], [boxes[~is_small]], 2, 0.5)
            answers.append(self.score(F.relu(self.flat(features.flatten(1)))))
        return answers


def network(kind: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = kind().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
    return model


def inputs() -> list[Tensor]:
    """What takes each path: much and little signal."""
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64) * scale for scale in (0.01, 0.3, 1, 3, 30)]


def same_everywhere(model: nn.Module, small: nn.Module) -> None:
    model, small = copy.deepcopy(model).double(), copy.deepcopy(small).double()
    with torch.no_grad():
        for x in inputs():
            one, other = (list(found.values()) if isinstance(found, dict) else found for found in (model(x), small(x)))
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "runs", "sizes"),
    [
        (Skips, 2, {"stem": 4, "first.one": 4, "second.one": 4}),
        (Exits, 1, {"stem": 4, "first.one": 4, "second.one": 4}),
        (Mean, 2, {"stem": 8, "first.one": 4, "second.one": 4}),
        (Lists, 1, {"stem": 8, "first.one": 4, "second.one": 4}),
        (Arrays, 1, {"stem": 8, "first.one": 4, "second.one": 4}),
        (Counts, 2, {"stem": 8, "first.one": 4, "second.one": 4}),
        (Boxes, 2, {"stem": 4, "down": 4, "flat": 3}),
    ],
)
def test_cut_on_every_path(kind: Callable[[], nn.Module], runs: int, sizes: dict[str, int]) -> None:
    """What only labels of data decide goes; what decides by its channels stays."""
    model = network(kind)
    slimnet.prune(model, X, rate=0.5)
    result = slimnet.slim(model, X)
    same_everywhere(model, result.model)
    found = {name: layer.weight.shape[0] for name, layer in result.model.named_modules() if name in sizes}
    assert found == sizes
    assert result.plan.runs == runs
    assert result.report.way == f"module, as {'1 run shows' if runs == 1 else f'{runs} runs show'} it"
    assert len(result.report.verification.checks) > 8
    again = Plan.from_dict(json.loads(json.dumps(result.plan.as_dict()))).apply(copy.deepcopy(model))
    same_everywhere(result.model, again)


@pytest.mark.parametrize(
    ("kind", "said"), [(Mean, "operator aten.mean"), (Lists, "operator aten.nonzero"), (Arrays, "operator aten.nonzero")]
)
def test_what_decides_is_the_reason(kind: Callable[[], nn.Module], said: str) -> None:
    groups = {group.name: group.pinned for group in slimnet.channel_groups(network(kind), X)}
    assert groups["stem"].startswith(said)
    assert "at test_recorded.py:" in groups["stem"]
    assert not groups["first.one"]


def test_a_cut_that_changes_the_answer_stays() -> None:
    model = network(Counts)
    slimnet.prune(model, X, rate=0.5)
    plan = slimnet.slim(model, X).plan
    reasons = {group.name: list(group.reasons) for group in plan.groups}
    assert reasons["stem"][0].startswith("without these channels the network does something else: the slim model differs on ")


def test_what_modules_hold_that_was_computed() -> None:
    """An answer with its history, which torch does not copy; the network is recorded all the same."""

    class Keeps(Skips):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            answers = super().forward(x)
            self.answer = answers["late"]
            return answers

    model = network(Keeps)
    model(X)
    held = model.answer
    assert not next(group.pinned for group in slimnet.channel_groups(model, X) if group.name == "first.one")
    assert model.answer is held


def test_what_one_image_of_the_batch_shows() -> None:
    """A path that only a single image takes is known from the batch that it is in."""

    class Bright(Net):
        def forward(self, x: Tensor) -> Tensor:
            maps = self.first(F.relu(self.stem(x)))
            out: Tensor = self.exit(maps.mean((2, 3)))
            if 2.0 < x.mean() < 2.1:
                out = self.last(self.second(maps).mean((2, 3)))
            return out

    model = network(Bright)
    x = X.clone()
    x[2] = x[2] - x[2].mean() + 2.05
    said = r"at test_recorded.py:\d+.* second.one, second.norm, second.two.* never ran: give .*; a part .* itself: --part stem "
    with pytest.raises(GraphError, match=said):
        slimnet.channel_groups(model, X)
    slimnet.prune(model, x, rate=0.5)
    result = slimnet.slim(model, x)
    assert result.model.get_submodule("second.one").weight.shape[:2] == (4, 4)
    alone = x[2:3]
    torch.testing.assert_close(result.model(alone), model(alone), rtol=1e-5, atol=1e-6)


class Nothing(Boxes):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [answer[answer.amax(1) > 1e6] for answer in super().forward(x)]


def test_a_network_that_finds_nothing_proves_nothing() -> None:
    model = network(Nothing)
    slimnet.prune(model, X, rate=0.5)
    with pytest.raises(VerificationError, match="finds nothing on any input: give an example"):
        slimnet.slim(model, X)


def test_labels_that_no_layer_has(tmp_path: Path) -> None:
    """Pieces of a tensor that the network makes by itself: there is nothing to cut in them."""

    class Made(Net):
        def forward(self, x: Tensor) -> Tensor:
            maps = self.first(F.relu(self.stem(x)))
            maps = self.second(maps) if x.abs().mean() > 1.0 else maps
            one, two = torch.cat([x[:, :2].flip(1), x.cumsum(1)[:, :2]], 1).chunk(2, 1)
            out: Tensor = self.last(maps.mean((2, 3))) + self.exit(maps.mean((2, 3))) + (one + two).mean((1, 2, 3))[:, None]
            return out

    model = network(Made)
    slimnet.prune(model, X, rate=0.5)
    same_everywhere(model, slimnet.slim(model, X).model)


def test_the_network_is_left_as_it_was() -> None:
    class Remembers(Skips):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            self.count += 1  # type: ignore[has-type]
            return super().forward(x)

    model = network(Remembers)
    model.train()
    model.first.eval()  # type: ignore[union-attr]
    state, modes, random = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()], torch.get_rng_state()
    assert analyse(model, X).runs == 2
    assert [module.training for module in model.modules()] == modes
    torch.testing.assert_close(model.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class Padded(nn.Module):
    """A network whose shortcuts pad channels, run on one image or on two."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.two = slimnet.build_model("resnet8", num_classes=5), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(self.one(x))
        return out + self.body(self.two(x)) if x.abs().mean() > 0.5 else out


class Twins(Padded):
    """The same without a choice: torch.export follows it."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(self.one(x)) + self.body(self.two(x))
        return out


@pytest.mark.parametrize("kind", [Padded, Twins])
def test_padded_shortcuts_that_run_more_than_once(kind: Callable[[], nn.Module]) -> None:
    model = network(kind)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    slimnet.prune(model, x, rate=0.5)
    result = slimnet.slim(model, x)
    assert result.report.removed == result.report.closed
    assert {group.name: len(group.kept) for group in result.plan.groups}["body.conv1"] == 8
    for scale in (0.1, 1, 10):
        torch.testing.assert_close(result.model(x * scale), model(x * scale), rtol=1e-4, atol=1e-5)


def test_a_network_that_cannot_be_copied_is_one_line() -> None:
    class Kept(Skips):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("not this one")

    with pytest.raises(GraphError, match=r"Kept cannot be analysed .*data-dependent expression"):
        slimnet.channel_groups(network(Kept), X)


def test_what_torch_can_export_is_not_recorded() -> None:
    assert analyse(network(lambda: nn.Sequential(nn.Conv2d(3, 4, 1))), X).runs == 0


def test_a_whole_detector() -> None:
    """Boxes, thresholds and non-maximum suppression included: backbone, pyramid and head lose half of their channels."""
    torch.manual_seed(0)
    model = detection.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=5, min_size=64, max_size=64, score_thresh=0.0, topk_candidates=20
    ).eval()
    x = torch.rand(1, 3, 64, 64)
    slimnet.prune(model, x, rate=0.5)
    result = slimnet.slim(model, x)
    assert result.report.removed == result.report.closed
    assert result.report.params_after < 0.35 * result.report.params_before
    assert result.report.verification.worst < 1e-9
    with torch.no_grad():
        one, other = model(x)[0], result.model(x)[0]
    assert len(one["boxes"]) > 0
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-4)


def test_through_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network for PyTorch is written; ONNX has no such control flow, so one line says that there is no model.onnx."""
    source = Path(__file__).read_text(encoding="utf-8")
    head = "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn\n\n\n"
    (tmp_path / "nets.py").write_text(head + source[source.index("class Block") : source.index("class Exits")])
    monkeypatch.chdir(tmp_path)
    torch.save(slimnet.build_model("nets.py:Skips", num_classes=5).state_dict(), "weights.pth")
    network = ("--model", "nets.py:Skips", "--num-classes", 5, "--in-channels", 3, "--image-size", 8)
    done = slimnet_cli(*map(str, ("prune", "weights.pth", *network, "--rate", 0.5, "--out", "pruned")))
    assert done.status == 0, done.err
    done = slimnet_cli(*map(str, ("slim", "pruned/model.safetensors", *network, "--out", "small")))
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "small holds the cut and verified network for PyTorch (slimnet.load_slim), but no model.onnx" in done.err
    assert json.loads(Path("small/report.json").read_text())["surgery"]["way"].startswith("module, as ")
    assert slimnet.load_slim("small", trust_code=True).stem.weight.shape[0] == 4
