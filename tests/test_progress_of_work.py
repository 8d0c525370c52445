"""Every long step of the library tells how far it is, in shares that end with all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from listeners import Heard
from slimnet import compare_latency, evaluate, export_onnx, slim
from slimnet.commands.confidence import ConfidenceStep
from slimnet.commands.rate import rate_for
from slimnet.data import Dataset, Split
from slimnet.export.precision import to_int8
from slimnet.progress import listening


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
    return nn.Sequential(*layers).eval()


EXAMPLE = torch.zeros(2, 3, 8, 8)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "x.onnx"
    export_onnx(network(), EXAMPLE, path)
    return path


def images(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def evaluated(file: Path) -> object:
    split = Split(images(20), torch.arange(20) % 4)
    return evaluate(file, split, mean=(0.5,) * 3, std=(1.0,) * 3, batch_size=8)


def judged(file: Path) -> object:
    split = Split(images(20), torch.arange(20) % 4)
    statistics = {"mean": (0.5,) * 3, "std": (1.0,) * 3}
    data = Dataset("toys", tuple("abcd"), split, split, split, **statistics)
    return ConfidenceStep(data, lambda _: None)("fp32", file.read_bytes())


OPTIONS = {"criterion": "l2", "ranking": "group", "couple": "stream", "mask_norm": True, "ignore": (), "statistics": None}
STEPS: dict[str, tuple[Callable[[Path], object], int]] = {
    "cutting": (lambda _: slim(network(), EXAMPLE), 2),
    "exporting": (lambda file: export_onnx(network(), EXAMPLE, file.with_name("y.onnx")), 2),
    "evaluating": (evaluated, 3),
    "calibrating": (judged, 2),
    "timing": (lambda file: compare_latency({"x": file}, rounds=3, seconds=0.0, warmup=0.0), 1),
    "calibrating int8 (minmax)": (lambda file: to_int8(file.read_bytes(), np.zeros((70, 3, 8, 8), np.float32)), 3),
    "looking for the rate": (lambda _: rate_for(network(), EXAMPLE, 0.6, OPTIONS), 12),
}


@pytest.mark.parametrize("name", STEPS)
def test_long_steps_tell_how_far_they_are(name: str, file: Path) -> None:
    act, times = STEPS[name]
    with listening(Heard()) as heard:
        act(file)
    shares = [done / total for named, done, total in heard.shares if named == name and total is not None]
    assert len(shares) == times and shares == sorted(shares) and shares[-1] <= 1
    assert heard.finished()[name]


def test_who_gave_a_function_of_their_own_is_still_told(file: Path) -> None:
    told: list[float] = []
    compare_latency({"x": file}, rounds=3, seconds=0.0, warmup=0.0, progress=told.append)
    assert told == [1.0]
