"""Pictures in, probabilities out: the preprocessing in the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from export_cases import PREPROCESSING, net, real, run_onnx
from slimnet.export import export_onnx
from slimnet.export.embed import check_embedded
from slimnet.onnx.embed import embed
from slimnet.preprocess import describe, prepare


def test_embedded_takes_pictures(full):
    entry = full.model["embedded"]
    assert entry["inputs"] == [{"name": "image", "dtype": "uint8", "shape": ["batch", 8, 8, 3]}]
    assert entry["outputs"] == [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 5]}]
    pictures = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    session = onnxruntime.InferenceSession(full.path / entry["file"], providers=["CPUExecutionProvider"])
    got = session.run(None, {"image": pictures})[0]
    inputs = torch.from_numpy(np.stack([prepare(Image.fromarray(picture), PREPROCESSING) for picture in pictures]))
    wanted = (torch.from_numpy(run_onnx(full.onnx, inputs)) / full.temperature("fp32")).softmax(1).numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert entry["parity"]["relative"] <= 1e-5


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(data).graph.node]


def exported(model: torch.nn.Module, example: torch.Tensor, tmp_path: Path) -> bytes:
    export_onnx(model, example, tmp_path / "x.onnx")
    return (tmp_path / "x.onnx").read_bytes()


NETWORKS = {
    "plain convolution": (torch.nn.Conv2d(3, 4, 3, padding=1), 3, False),
    "grey": (torch.nn.Conv2d(1, 4, 3, padding=1), 1, False),
    "depthwise convolution": (torch.nn.Conv2d(3, 3, 3, padding=1, groups=3), 3, True),
    "no convolution": (torch.nn.Hardtanh(), 3, True),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_scale_goes_into_the_first_convolution_where_there_is_one(name, tmp_path):
    torch.manual_seed(0)
    first, channels, multiplied = NETWORKS[name]
    model = torch.nn.Sequential(first, torch.nn.Flatten(), torch.nn.LazyLinear(5))
    rule = describe(size=(6, 9), channels=channels, mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.3, 0.4)[:channels])
    example = torch.randn(2, channels, 6, 9)
    model(example)
    data = exported(model, example, tmp_path)
    embedded = embed(data, rule)
    assert ("Mul" in operators(embedded)) == multiplied
    assert operators(embedded)[:3] == ["Cast", "Transpose", "Sub"]
    report = check_embedded(data, embedded, rule, example)
    assert report.passed and report.worst.relative < 1e-5


def test_embedding_the_wrong_preprocessing_does_not_pass(tmp_path):
    data = exported(net(), real(1), tmp_path)
    wrong = describe(size=(8, 8), channels=3, mean=[0.5] * 3, std=[0.3] * 3)
    assert not check_embedded(data, embed(data, wrong), PREPROCESSING, real()).passed
