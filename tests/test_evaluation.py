"""Evaluation counts right, and refuses what it cannot count."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from slimnet.data import Split, load_data
from slimnet.errors import DataError, FileFormatError
from slimnet.training import evaluate


def fixed_logits(images: Tensor) -> Tensor:
    """Class 2 for dark images, class 0 for light ones."""
    light = images.mean((1, 2, 3)) > 0
    return torch.where(light[:, None], torch.tensor([5.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 5.0]))


class Fixed(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return fixed_logits(images)


def test_evaluation_counts() -> None:
    images = torch.tensor([255, 255, 0, 0], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 4, 4).contiguous()
    split = Split(images, torch.tensor([0, 2, 2, 2]))
    got = evaluate(Fixed(), split, mean=(0.5,), std=(0.5,), batch_size=3)
    assert got.accuracy == 0.75
    assert got.per_class == (1.0, None, pytest.approx(2 / 3))
    assert got.confusion == ((1, 0, 0), (0, 0, 0), (1, 0, 2))
    right = math.log(math.exp(5) + 2) - 5
    assert got.loss == pytest.approx((3 * right + right + 5) / 4, rel=1e-6)
    assert json.loads(json.dumps(got.as_dict()))["count"] == 4


class OneOff(nn.Module):
    """One logit of the first image is another number."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.zeros(len(images), 3)
        logits[0, 1] = self.value
        return logits


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_evaluation_refuses_a_logit_that_is_no_number(value: float) -> None:
    split = Split(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(DataError, match="NaN or infinite logits for 1 of 4 images: it cannot be evaluated"):
        evaluate(OneOff(value), split, mean=(0.5,), std=(0.5,))


def test_evaluation_refuses_labels_without_an_output() -> None:
    split = Split(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 3]))
    with pytest.raises(DataError, match="label 3 is out of range: the network has 3 outputs"):
        evaluate(Fixed(), split, mean=(0.5,), std=(0.5,))


@pytest.mark.parametrize("content", [None, b"", b"not an onnx file"])
def test_evaluation_of_a_bad_onnx_file(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"model\.onnx") as error:
        evaluate(tmp_path / "model.onnx", load_data("digits").test, mean=(0.5,), std=(0.5,))
    assert "\n" not in str(error.value)
