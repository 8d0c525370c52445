"""Export: a file that computes what the model does, or no file."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export_cases import SHAPE, Branching, net, perturbed, real, reordered, run_onnx
from slimnet.errors import ArgumentError, ExportError, ParityError
from slimnet.export import ParityReport, compare, export_onnx


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.linear(a) + b


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 192)


class Infinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3)) / torch.zeros(1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """One export, looked at from all sides; stdout and stderr during it."""
    path = tmp_path_factory.mktemp("export") / "new" / "model.onnx"
    model = net().train()
    model.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = export_onnx(model, real(1), path, reference=reordered(model), inputs=[real(5), real(12)], metadata={"a": "b"})
    return path, model, before, report


def test_computes_what_the_model_does_at_any_batch(exported):
    path, model, _, _ = exported
    for batch in (1, 3, 16):
        x = torch.randn(batch, *SHAPE)
        with torch.no_grad():
            expected = copy.deepcopy(model).eval()(x).numpy()
        np.testing.assert_allclose(run_onnx(path, x), expected, atol=1e-5 * np.abs(expected).max())


def test_leaves_the_model_untouched(exported):
    _, model, before, _ = exported
    assert model.training and not model.norm.training and model.drop.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_is_one_clean_file(exported):
    path, _, _, _ = exported
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 20)]
    assert [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        *SHAPE,
    ]
    assert (proto.graph.input[0].name, proto.graph.output[0].name) == ("input", "logits")
    assert {entry.key: entry.value for entry in proto.metadata_props} == {"a": "b"}
    data = path.read_bytes()
    for trace in (
        Path.cwd(),
        Path.home(),
        Path(torch.__file__).parent,
        "site-packages",
        ".py",
        "stack_trace",
    ):
        assert str(trace).encode() not in data


def test_report_covers_every_pair_batch_and_input(exported):
    report = exported[3]
    assert report.passed
    assert report.pairs == ("model vs reference", "onnx vs model", "onnx vs reference")
    for pair in report.pairs:
        runs = [(check.input, check.batch) for check in report.checks if check.pair == pair]
        assert runs == [
            ("random", 1),
            ("random", 2),
            ("random", 7),
            ("real", 1),
            ("real", 2),
            ("real", 7),
            ("real", 7),
        ]
    assert 0 < report.worst_of("model vs reference").relative <= 1e-9
    assert report.worst_of("model vs reference").dtype == "float64"
    assert report.worst_of("onnx vs model").relative <= 1e-5
    assert ParityReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report


def test_exports_are_quiet_and_repeatable(exported, tmp_path, capfd):
    model = exported[1]
    export_onnx(model, real(2), tmp_path / "again.onnx", metadata={"a": "b"})
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "again.onnx").read_bytes() == exported[0].read_bytes()


@pytest.mark.parametrize("by", [1e-3, 1e-6, float("nan")])
def test_gate_refuses_a_model_that_differs(by, tmp_path):
    out = tmp_path / "new" / "model.onnx"
    with pytest.raises(ParityError) as caught:
        export_onnx(perturbed(net(), by), real(2), out, reference=net(), inputs=[real()])
    assert "\n" not in str(caught.value)
    assert " vs " in str(caught.value) and "batch" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_gate_refuses_a_wrong_export(tmp_path, monkeypatch):
    """As if the exporter had got a weight wrong."""
    from slimnet.onnx import write as module

    def wrong(proto):
        weight = next(w for w in proto.graph.initializer if w.name == "linear.bias")
        value = onnx.numpy_helper.to_array(weight) + np.float32(1e-3)
        weight.CopyFrom(onnx.numpy_helper.from_array(value, weight.name))

    monkeypatch.setattr(module, "strip", wrong)
    with pytest.raises(ParityError, match=r"^onnx vs model on \w+ input at batch \d"):
        export_onnx(net(), real(2), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_survives_a_failed_export(tmp_path):
    (tmp_path / "model.onnx").write_text("old")
    with pytest.raises(ParityError):
        export_onnx(perturbed(net(), 1.0), real(2), tmp_path / "model.onnx", reference=net())
    assert (tmp_path / "model.onnx").read_text() == "old"


@pytest.mark.parametrize("opset", [18, 11, 21])
def test_the_opset_asked_for_is_the_one_in_the_file(opset, tmp_path):
    path = tmp_path / "model.onnx"
    export_onnx(net(), real(2), path, opset=opset)
    assert onnx.load(path).opset_import[0].version == opset


def test_several_inputs_share_the_batch(tmp_path):
    inputs = (torch.randn(1, 4), torch.randn(1, 3))
    model = Two()
    export_onnx(model, inputs, tmp_path / "two.onnx", inputs=[inputs], input_names=["left", "right"])
    a, b = torch.randn(9, 4), torch.randn(9, 3)
    np.testing.assert_allclose(run_onnx(tmp_path / "two.onnx", a, b), model(a, b).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("model", [Branching(), FixedBatch(), Infinite()], ids=lambda model: type(model).__name__)
def test_what_cannot_be_exported_says_so_on_one_line(model, tmp_path):
    with pytest.raises(ExportError) as caught:
        export_onnx(model, torch.rand(2, *SHAPE), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


BAD_ARGUMENTS = {
    "opset too low": {"opset": 3},
    "opset unknown": {"opset": 999},
    "input of another size": {"inputs": [torch.zeros(2, 3, 8, 9)]},
    "input without batch": {"inputs": [torch.zeros(3, 8, 8)]},
    "input of another type": {"inputs": [torch.zeros(2, *SHAPE, dtype=torch.uint8)]},
    "input not finite": {"inputs": [torch.full((2, *SHAPE), float("nan"))]},
    "empty input": {"inputs": [torch.zeros(0, *SHAPE)]},
    "too many names": {"input_names": ["a", "b"]},
    "input not a tensor": {"inputs": [[1, 2]]},
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_before_any_work(name, tmp_path):
    with pytest.raises(ArgumentError):
        export_onnx(net(), real(2), tmp_path / "model.onnx", **BAD_ARGUMENTS[name])
    assert list(tmp_path.iterdir()) == []


LOGITS = torch.tensor([[1.0, 2.0, 3.0], [0.0, 10.0, 0.0]])
SHIFTED = {
    "equal": (LOGITS, 0.0, 1.0, 0, True),
    "rounding": (LOGITS + 5e-5, 5e-5, 1.0, 0, True),
    "too far": (LOGITS + 2e-4, 2e-4, 1.0, 0, False),
    "another winner": (LOGITS.flip(1), 2.0, 0.5, 0, False),
}


@pytest.mark.parametrize("name", SHIFTED)
def test_compare(name):
    got, max_abs, agreement, undecided, passed = SHIFTED[name]
    (check,) = compare(lambda _: LOGITS, lambda _: got, [("real", (LOGITS,))], pair="a vs b", tolerance=1e-5)
    assert check.max_abs == pytest.approx(max_abs, rel=1e-2)
    assert check.scale == 10.0
    assert (check.agreement, check.undecided, check.passed) == (agreement, undecided, passed)


def test_a_near_tie_does_not_count_as_disagreement():
    tie, swapped = torch.tensor([[1.0, 1.0 + 1e-6]]), torch.tensor([[1.0 + 1e-6, 1.0]])
    (check,) = compare(lambda _: tie, lambda _: swapped, [("real", (tie,))], pair="a vs b", tolerance=1e-5)
    assert (check.agreement, check.undecided, check.passed) == (1.0, 1, True)


def test_all_zero_logits_are_compared_absolutely():
    zero = torch.zeros(2, 3)
    (check,) = compare(lambda _: zero, lambda _: zero + 1e-3, [("real", (zero,))], pair="a vs b", tolerance=1e-5)
    assert (check.scale, check.passed) == (1.0, False)


@pytest.mark.parametrize("got", [torch.zeros(2, 4), torch.full((2, 3), float("inf")), (LOGITS,)])
def test_compare_refuses_what_has_no_distance(got):
    with pytest.raises(ExportError):
        compare(lambda _: LOGITS, lambda _: got, [("real", (LOGITS,))], pair="a vs b", tolerance=1e-5)
