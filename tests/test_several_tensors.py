"""Networks that take several tensors, or give several: in a tuple, a mapping, a dataclass."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import slimnet
from command import slimnet_cli
from slimnet._modes import flatten_outputs, output_names, with_flat_outputs
from slimnet.errors import ArgumentError, GraphError, ParityError
from slimnet.export.gate import BATCHES
from slimnet.export.parity import ParityReport, compare
from slimnet.onnx.session import open_session
from slimnet.surgery import slim


@dataclass
class Answer:
    """What a network may give."""

    logits: Tensor
    features: Tensor
    nothing: None = None


class Net(nn.Module):
    """Three convolutions, the features before the head, and an output in the given form."""

    def __init__(self, kind: str = "tensor", num_classes: int = 4) -> None:
        super().__init__()
        self.kind = kind
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 12, 3)
        self.head, self.side = nn.Linear(12, num_classes), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Any:
        features = self.body(self.norm(self.stem(x)).relu()).relu().mean((2, 3))
        logits, side = self.head(features), self.side(features)
        if self.kind == "output of transformers":
            from transformers.modeling_outputs import ImageClassifierOutput

            return ImageClassifierOutput(logits=logits, hidden_states=(side,))
        forms = {"tensor": logits, "tuple": (logits, side), "nested": [logits, {"side": (side,)}],
                 "mapping": {"logits": logits, "side": side}, "dataclass": Answer(logits, side)}  # fmt: skip
        return forms[self.kind]


class Two(nn.Module):
    """Two pictures of other sizes in, logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(1, 8, 3), nn.Linear(16, 5)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        both = [self.left(left).relu().mean((2, 3)), self.right(right).relu().mean((2, 3))]
        return {"logits": self.head(torch.cat(both, 1)), "right": both[1].sum(1)}


def cut(model: nn.Module, inputs: Any, file: Path) -> nn.Module:
    """Prune, cut, verify, export."""
    model.eval()
    mask = slimnet.prune(model, inputs, rate=0.5)
    assert any(bool(gone.any()) for gone in mask.closed().values())
    result = slim(model, inputs)
    assert result.report.removed > 0
    assert slimnet.count(result.model, inputs).flops < slimnet.count(model, inputs).flops
    report = slimnet.export_onnx(result.model, inputs, file, reference=model)
    assert {check.batch for check in report.checks} == set(BATCHES)
    assert {check.output for check in report.checks} == {spec.name for spec in open_session(file).outputs}
    return result.model


KINDS = {
    "tuple": ["output_0", "output_1"],
    "nested": ["output_0", "output_1.side.0"],
    "mapping": ["logits", "side"],
    "dataclass": ["logits", "features"],
    "output of transformers": ["logits", "hidden_states.0"],
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers, on import
@pytest.mark.parametrize(("kind", "names"), KINDS.items(), ids=KINDS)
def test_outputs(kind: str, names: list[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Net(kind), torch.randn(2, 3, 12, 12)
    small = cut(model, x, tmp_path / "net.onnx")
    assert type(small(x)) is type(model(x))
    session = open_session(tmp_path / "net.onnx")
    assert [spec.name for spec in session.outputs] == names
    found, expected = session.run({"input": x.numpy()}), flatten_outputs(model(x))
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(got), want.detach(), rtol=1e-4, atol=1e-5)


def test_inputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 10, 10), torch.randn(2, 1, 8, 8)
    cut(Two(), inputs, tmp_path / "two.onnx")
    session = open_session(tmp_path / "two.onnx")
    assert [spec.name for spec in session.inputs] == ["input_0", "input_1"]
    arrays = {name: x.numpy() for name, x in zip(("input_0", "input_1"), inputs, strict=True)}
    quick = {"batch": 2, "rounds": 3, "seconds": 0.1, "warmup": 0.0, "limit": 60.0}
    report = slimnet.compare_latency(dict.fromkeys(("one", "other"), tmp_path / "two.onnx"), inputs=arrays, **quick)
    assert [variant.name for variant in report.variants] == ["one", "other"]


class Scaled(nn.Module):
    """The second input is a single number."""

    def __init__(self, decides: bool) -> None:
        super().__init__()
        self.decides, self.a, self.b = decides, nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)
        self.a.weight.data[1], self.a.bias.data[1] = 0, 0  # type: ignore[index]

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        maps = F.relu(self.a(x)) * scale
        out: Tensor = self.b(maps).mean((2, 3))
        return out * 2 if self.decides and x.mean() > 1000 else out


@pytest.mark.parametrize("scale", [torch.tensor(3), torch.tensor(0.5)], ids=str)
@pytest.mark.parametrize(("decides", "as_graph"), [(False, False), (False, True), (True, False)])
def test_an_input_that_is_a_single_number(scale: Tensor, decides: bool, as_graph: bool) -> None:
    """It stays single in every comparison, and hides no image of the batch."""
    result = slimnet.slim(Scaled(decides), (torch.randn(2, 3, 8, 8), scale), as_graph=as_graph)
    assert result.report.removed == 1
    made = {check.inputs for check in result.report.verification.checks}
    assert {"given", "random", "random, larger"} <= made and ("given [1]" in made) == decides


@pytest.mark.parametrize("inputs", [None, 3, "image", (), (None,), {"x": torch.randn(2, 3, 8, 8)}], ids=str)
def test_example_inputs_that_are_no_tensors(inputs: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^`example_inputs` must be a tensor or a tuple of tensors\.$"):
        slimnet.channel_groups(nn.Conv2d(3, 6, 3), inputs)


def test_every_output_is_compared() -> None:
    """Not the logits alone."""
    logits = torch.randn(2, 3)
    with pytest.raises(ParityError, match="1 outputs instead of 2"):
        compare(lambda _: [logits, logits], lambda _: [logits], [("random", (logits,))], pair="p", tolerance=1e-5)
    pair: dict[str, Any] = {"pair": "p", "tolerance": 1e-5, "names": ("a", "b")}
    first, second = compare(lambda _: [logits, logits], lambda _: [logits, logits + 1], [("random", (logits,))], **pair)
    assert first.passed
    assert not second.passed
    assert second.relative > 0.1
    report = ParityReport((first, second))
    with pytest.raises(ParityError, match=r"^p, output b, on random input"):
        report.require()
    assert [check["output"] for check in report.as_dict()["checks"]] == ["a", "b"]
    assert ParityReport.from_dict(report.as_dict()) == report
    with pytest.raises(ParityError, match=r"output b: shape \(2, 1\) instead of \(2, 3\)"):
        compare(lambda _: [logits, logits], lambda _: [logits, logits[:, :1]], [("random", (logits,))], **pair)


def test_names_of_what_holds_the_outputs() -> None:
    x = torch.zeros(1)
    assert output_names(x) == ["logits"]
    assert output_names([x, (x, {"a\n": x, 3: [x]})]) == ["output_0", "output_1.0", "output_1.1.a\\n", "output_1.1.3.0"]
    assert output_names({"a": {"b": x}, "a.b": x}) == ["a.b", "a.b_1"]
    assert output_names({"logits": x, "nothing": None}) == ["logits"]


def test_outputs_that_are_numbers_constants_and_the_same_twice(tmp_path: Path) -> None:
    """What gives more than logits: a truth value, a constant, the input, one tensor under two names, no entries at all."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.register_buffer("anchors", torch.arange(6.0).reshape(2, 3))

        def forward(self, x: Tensor) -> dict[str, Any]:
            y = self.conv(x).relu()
            return {"y": y, "again": y, "sure": y.mean((1, 2, 3)) > 0.1, "anchors": self.anchors * 2, "sum": y.sum((1, 2, 3))}

    torch.manual_seed(0)
    model, x = Odd().eval(), torch.randn(2, 3, 8, 8)
    report = slimnet.export_onnx(model, x, tmp_path / "odd.onnx")
    assert report.passed
    assert [spec.name for spec in open_session(tmp_path / "odd.onnx").outputs] == ["y", "again", "sure", "anchors", "sum"]


def test_names_of_outputs(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 12, 12)
    slimnet.export_onnx(Net("tuple").eval(), x, tmp_path / "net.onnx", output_names=["a", "b"])
    assert [spec.name for spec in open_session(tmp_path / "net.onnx").outputs] == ["a", "b"]
    with pytest.raises(ArgumentError, match="`output_names` must be 2 different names"):
        slimnet.export_onnx(Net("tuple").eval(), x, tmp_path / "no.onnx", output_names=["a"])
    assert not (tmp_path / "no.onnx").exists()


def test_the_forward_pass_is_the_one_that_it_was() -> None:
    model, x = Net("dataclass").eval(), torch.randn(1, 3, 8, 8)
    with with_flat_outputs(model):
        assert isinstance(model(x), tuple)
    assert isinstance(model(x), Answer)
    assert "forward" not in vars(model)
    mine = vars(model)["forward"] = lambda x: {"own": x}
    with with_flat_outputs(model):
        assert isinstance(model(x), tuple)
    assert vars(model)["forward"] is mine


MODULE = """
import torch
from torch import nn
class Twice(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.body, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, num_classes)
    def forward(self, x):
        features = self.body(self.conv(x).relu()).relu().mean((2, 3))
        return {"logits": self.head(features), "features": features}
class Depends(Twice):
    def forward(self, x):
        x = self.conv(x)
        if x.sum() > 0:
            x = x + 1
        return self.head(x.mean((2, 3)))
class Refused(Twice):  # ONNX has no such operator
    def forward(self, x):
        features = self.body(self.conv(x).relu()).relu().mean((2, 3))
        return {"logits": self.head(features), "waves": torch.special.bessel_j0(features)}
"""


def test_what_is_not_exported_is_written_for_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the ONNX file, status 1 and one line."""
    (tmp_path / "nets.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    torch.save(slimnet.build_model("nets.py:Refused", num_classes=5).state_dict(), "weights.pth")
    network = ("--model", "nets.py:Refused", "--num-classes", 5, "--in-channels", 3, "--image-size", 12)
    done = slimnet_cli(*map(str, ("prune", "weights.pth", *network, "--rate", 0.5, "--out", "pruned")))
    assert done.status == 0, done.err
    done = slimnet_cli(*map(str, ("slim", "pruned/model.safetensors", *network, "--out", "small")))
    assert done.status == 1
    assert done.out == ""
    said = r"slimnet: error: small holds the cut .* but no model\.onnx: Refused cannot be exported to ONNX: .*\n"
    assert re.fullmatch(said, done.err)
    assert {path.name for path in (tmp_path / "small").iterdir()} == {
        "slim.safetensors", "plan.json", "config.json", "report.json"}  # fmt: skip
    report = json.loads((tmp_path / "small" / "report.json").read_text())
    assert report["parity"] is None
    assert report["surgery"]["removed"] > 0
    small = slimnet.load_slim("small", trust_code=True)
    assert small(torch.randn(2, 3, 12, 12))["logits"].shape == (2, 5)
    done = slimnet_cli("verify", "small", "--trust-code")
    assert done.status == 1
    assert "small holds no model.onnx to be verified" in done.err


def test_through_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    torch.save(slimnet.build_model("nets.py:Twice", num_classes=5).state_dict(), "weights.pth")
    network = ("--model", "nets.py:Twice", "--num-classes", 5, "--in-channels", 3, "--image-size", 12)
    for arguments in (("prune", "weights.pth", *network, "--rate", 0.5, "--out", "pruned"),
                      ("slim", "pruned/model.safetensors", *network, "--out", "small"),
                      ("verify", "small", "--trust-code")):  # fmt: skip
        done = slimnet_cli(*map(str, arguments))
        assert done.status == 0, done.err
    done = slimnet_cli("verify", "small")
    assert done.status == 1
    assert "allow it with --trust-code" in done.err


def test_what_stopped_the_analysis(tmp_path: Path) -> None:
    """The operator, and the line of the network's own code."""
    (tmp_path / "nets.py").write_text(MODULE)
    model = slimnet.build_model(f"{tmp_path / 'nets.py'}:Depends", num_classes=5)
    with pytest.raises(GraphError, match=r"Depends cannot be analysed.*\(at nets\.py:14: if x\.sum\(\) > 0:\)") as caught:
        slimnet.channel_groups(model, torch.randn(2, 3, 8, 8))
    assert "\n" not in str(caught.value)
