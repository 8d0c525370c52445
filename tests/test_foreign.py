"""Weights that others trained, with filters zeroed as other tools do it: masked and slim networks say the same of real images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from slimnet.data import Batches, load_data
from slimnet.models import build_model
from slimnet.surgery import slim

IMAGES = 1000


@pytest.fixture(scope="module")
def images(data_dir: Path) -> Tensor:
    data = load_data("cifar10", data_dir=str(data_dir))
    batches = Batches(data.test.subset(torch.arange(IMAGES)), IMAGES, mean=data.mean, std=data.std)
    return next(iter(batches.epoch(0)))[0]


def zero_smallest(model: nn.Module, rate: float) -> None:
    """The filters of smallest L2 norm of every convolution; norms live."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            norms = module.weight.data.flatten(1).norm(dim=1)
            module.weight.data[norms.argsort()[: int(rate * len(norms))]] = 0


@pytest.mark.slow
@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_every_image_gets_the_same_class(images: Tensor, data_dir: Path, rate: float, expand: bool) -> None:
    model = build_model("resnet56", num_classes=10, weights=str(data_dir / "weights" / "resnet56_cifar10.th")).eval()
    zero_smallest(model, rate)
    result = slim(model, images[:4], expand=expand)
    assert result.report.verification.worst <= 1e-12
    assert result.report.params_after < result.report.params_before
    with torch.no_grad():
        expected, found = model(images), result.model(images)
    assert torch.equal(expected.argmax(1), found.argmax(1))
    assert float((expected - found).abs().max()) <= 1e-5 * float(expected.abs().max())
