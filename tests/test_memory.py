"""Peak memory, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from chain import Dying, matmuls
from slimnet.errors import FileFormatError, MeasureError
from slimnet.measure import Setting, TorchNetwork, memory, peak_memory
from slimnet.measure.sessions import OnnxFile
from slimnet.measure.timed import Network

WIDTHS = (16, 2048)
MORE = 4 * (WIDTHS[1] ** 2 - WIDTHS[0] ** 2)
"""Bytes that the weights of the wide network have more than those of the narrow one."""


def growth(networks: Iterable[Network]) -> tuple[float, int]:
    """How much more the wide network takes, in parts of its weights; what the runtime itself takes, on any processor, falls out.

    Also the bytes of the narrow one.
    """
    narrow, wide = (peak_memory(network, Setting()) for network in networks)
    assert narrow is not None and wide is not None
    return (wide - narrow) / MORE, narrow


def test_weights_count(tmp_path: Path) -> None:
    copies, _ = growth(OnnxFile(matmuls(tmp_path / f"{width}.onnx", 1, width=width)) for width in WIDTHS)
    assert 0.9 < copies < 6


def test_weights_of_a_module_count_though_they_are_made_before_it_is_opened() -> None:
    """What the imports and the making of a module leave behind does not: this process holds more than four times as much."""
    copies, narrow = growth(TorchNetwork(partial(nn.Linear, width, width), torch.zeros(1, width)) for width in WIDTHS)
    assert 0.9 < copies < 6
    here = memory._status("VmRSS")
    assert here is None or narrow < here / 4


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
