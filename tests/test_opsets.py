"""A slim residual network in every opset, in the runtimes that want old ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import slimnet
from other_runtimes import BY_NAME, TOLERANCE, python, relative_error
from skips import skip_without
from slimnet.errors import ArgumentError, ExportError
from slimnet.export.embed import check_embedded
from slimnet.export.exporter import build
from slimnet.export.gate import Examples
from slimnet.export.precision import to_fp16, to_int8
from slimnet.onnx.embed import embed
from slimnet.onnx.lower.driver import held_opset
from slimnet.onnx.write import in_opset
from slimnet.preprocess import describe

OPSETS = (11, 13, 15, 17, 18, 20)
IR = {11: 6, 13: 7, 15: 8, 17: 8, 18: 8}
SHAPE = (3, 16, 16)


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, *SHAPE), dtype=np.float32)


@pytest.fixture(scope="module")
def slim() -> nn.Module:
    """A ResNet-8 with padded shortcuts (option A), half of every group cut."""
    torch.manual_seed(0)
    model, x = slimnet.build_model("resnet8", num_classes=10).eval(), torch.from_numpy(images(4))
    slimnet.prune(model, x, rate=0.5)
    small = slimnet.slim(model, x).model
    assert any(type(module).__name__ == "PadShortcut" for module in small.modules())
    return small


@pytest.fixture(scope="module")
def files(slim: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("opsets")
    found = {opset: folder / f"{opset}.onnx" for opset in OPSETS}
    for opset, path in found.items():
        report = slimnet.export_onnx(slim, torch.from_numpy(images(2)), path, opset=opset, metadata={"who": "slimnet"})
        assert report.passed
    return found


@pytest.mark.parametrize("opset", OPSETS)
def test_a_slim_resnet_is_written_valid_and_computes_the_same(opset: int, files: dict[int, Path], slim: nn.Module) -> None:
    proto = onnx.load(files[opset])
    onnx.checker.check_model(proto, full_check=True)
    assert held_opset(proto) == opset
    assert proto.ir_version == IR.get(opset, 10)
    assert [entry.value for entry in proto.metadata_props] == ["slimnet"]
    run = python(files[opset])
    for batch in (1, 3):
        with torch.no_grad():
            assert relative_error(slim(torch.from_numpy(images(batch))).numpy(), run(images(batch))) <= 1e-5


@pytest.mark.parametrize("opset", OPSETS)
def test_opencv_agrees(opset: int, files: dict[int, Path]) -> None:
    opencv = BY_NAME["OpenCV dnn"]
    if opencv.version() is None:
        skip_without(opencv.needs)
    run, right = opencv.load(files[opset]), python(files[opset])
    for batch in (1, 3):
        assert relative_error(right(images(batch)), run(images(batch))) <= TOLERANCE


def test_other_precisions_and_embedded_preprocessing_follow(files: dict[int, Path], tmp_path: Path) -> None:
    old, thirteen = files[11].read_bytes(), files[13].read_bytes()
    half, eight = to_fp16(old), to_int8(thirteen, images(8), reduce_range=False)
    preprocessing = describe(size=SHAPE[1:], channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    inside = embed(old, preprocessing)
    assert check_embedded(old, inside, preprocessing, None).passed
    right = python(files[11])(images(4))
    for data, off in ((half, 0.02), (eight, 0.2)):
        (tmp_path / "model.onnx").write_bytes(data)
        assert relative_error(right, python(tmp_path / "model.onnx")(images(4))) <= off
    for data, opset in ((half, 11), (eight, 13), (inside, 11)):
        proto = onnx.load_from_string(data)
        assert (held_opset(proto), proto.ir_version) == (opset, IR[opset])
    with pytest.raises(ArgumentError, match=r"^int8 needs `opset` 13 or more, got 11: .*\. Choose 13, or leave int8 out\.$"):
        to_int8(old, images(8))


class Sampling(nn.Module):
    """Has an operator that nothing in old opsets stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved = nn.functional.grid_sample(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False)
        return self.linear(moved.mean((2, 3)))


def test_what_cannot_be_written_names_the_operator_and_the_lowest_opset(tmp_path: Path) -> None:
    x = torch.from_numpy(images(2)[:, :, :4, :4])
    with pytest.raises(ExportError) as caught:
        slimnet.export_onnx(Sampling().eval(), x, tmp_path / "model.onnx", opset=11)
    found = str(caught.value)
    assert found.startswith("opset 11 is not to be had: GridSample ") and "\n" not in found
    assert found.endswith("does not exist below opset 16. The lowest possible is 16: choose 16 or more.")
    assert list(tmp_path.iterdir()) == []
    data = build(Sampling().eval(), Examples.of(x), opset=16).data
    assert held_opset(onnx.load_from_string(data)) == 16


def test_a_file_that_has_its_opset_stays_as_it_is(files: dict[int, Path]) -> None:
    data = files[18].read_bytes()
    assert in_opset(data, 18) == data
    assert held_opset(onnx.load_from_string(in_opset(data, 20))) == 20
