"""Peak memory, in a process of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from chain import Dying, matmuls
from slimnet.errors import FileFormatError, MeasureError
from slimnet.measure import Setting, TorchNetwork, memory, peak_memory
from slimnet.measure.sessions import OnnxFile

WIDTH = 2048
WEIGHTS = 4 * WIDTH * WIDTH


def test_weights_count(tmp_path: Path) -> None:
    small, large = (OnnxFile(matmuls(tmp_path / f"{width}.onnx", 1, width=width)) for width in (16, WIDTH))
    base, found = peak_memory(small, Setting()), peak_memory(large, Setting())
    assert base is not None and found is not None
    assert base < WEIGHTS < found < base + 6 * WEIGHTS


def test_weights_of_a_module_count_though_they_are_made_before_it_is_opened() -> None:
    """What the imports and the making of a module leave behind does not."""
    found = peak_memory(TorchNetwork(partial(nn.Linear, WIDTH, WIDTH), torch.zeros(1, WIDTH)), Setting())
    assert found is not None and WEIGHTS <= found < 6 * WEIGHTS


def test_errors_come_back(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"none\.onnx does not exist"):
        peak_memory(OnnxFile(tmp_path / "none.onnx"), Setting())
    with pytest.raises(MeasureError, match="ended early, with status 3"):
        peak_memory(Dying(), Setting())
    with pytest.raises(MeasureError, match="cannot be handed to another process"):
        peak_memory(TorchNetwork(lambda: nn.Linear(1, 1), torch.zeros(1, 1)), Setting())


def test_unknown_where_the_system_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = OnnxFile(matmuls(tmp_path / "a.onnx", 1))
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "either")
    monkeypatch.setattr("sys.platform", "linux")
    assert memory._rise(network, Setting()) is None
